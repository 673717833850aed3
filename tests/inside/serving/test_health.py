import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.db.backends.signals import connection_created
from django.test import Client
from structlog.testing import capture_logs

from serving import health

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def https_everywhere(settings: Any) -> None:
    """As in production."""
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["example.com"]


def test_pages_redirect_to_https(client: Client) -> None:
    response = client.get("/", headers={"host": "example.com"})

    assert response.status_code == 301
    assert response["Location"] == "https://example.com/"


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_probes_answer_without_https_and_whatever_the_host(
    client: Client, path: str
) -> None:
    response = client.get(path, headers={"host": "10.1.2.3"})

    assert response.status_code == 200
    assert response.json()["status"] == "ok"


def fail() -> None:
    raise OSError("connection refused by db.internal")


@pytest.mark.parametrize("name", list(health.CHECKS))
def test_what_all_processes_share_takes_none_out_but_is_named(
    client: Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    client.get("/health/ready")
    monkeypatch.setitem(health.CHECKS, name, fail)
    with capture_logs() as lines:
        for _ in range(3):
            response = client.get("/health/ready")

            assert response.status_code == 200
            assert response.json()["status"] == "degraded"
            fine = {"process": "ok", **dict.fromkeys(health.CHECKS, "ok")}
            assert response.json()["checks"] == fine | {name: "failed"}
            assert "db.internal" not in response.content.decode()
    # Once, if it was not told a moment ago.
    assert len(lines) <= 1


def test_process_that_never_reached_its_database_is_not_ready(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings may be wrong: a release must not go on with it."""
    monkeypatch.setattr(health, "REACHED", threading.Event())
    with monkeypatch.context() as context:
        context.setitem(health.CHECKS, "database", fail)
        response = client.get("/health/ready")

        assert response.status_code == 503
        assert response.json()["status"] == "failed"
        assert response.json()["checks"]["database"] == "failed"
        assert client.get("/health/live").status_code == 200

    assert client.get("/health/ready").status_code == 200


def test_process_whose_pages_reached_the_database_is_ready_in_an_outage(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nobody asked for its readiness before: it would leave with all the others."""
    monkeypatch.setattr(health, "REACHED", threading.Event())
    connection_created.send(type(connection), connection=connection)
    monkeypatch.setitem(health.CHECKS, "database", fail)

    response = client.get("/health/ready")

    assert (response.status_code, response.json()["status"]) == (200, "degraded")


def test_process_that_stops_is_not_ready(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health.watchdog, "stopping", "It is stopping.")

    response = client.get("/health/ready")

    assert response.status_code == 503
    assert response.json()["checks"] == {"process": "It is stopping."}


def test_process_that_is_stuck_is_not_ready(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health.watchdog, "problem", lambda: "Nothing gets on.")

    response = client.get("/health/ready")

    assert response.status_code == 503
    assert response.json()["checks"] == {"process": "Nothing gets on."}
    assert client.get("/health/live").status_code == 200


def test_a_check_that_hangs_is_given_up(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "TIMEOUT", 1)
    monkeypatch.setitem(health.CHECKS, "cache", lambda: time.sleep(2))

    response = client.get("/health/ready")

    assert response.status_code == 200
    assert response.json()["checks"] == {
        "process": "ok",
        **dict.fromkeys(health.CHECKS, "ok"),
        "cache": "no answer",
    }


def test_probes_at_once_do_not_wait_for_each_other(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get("/health/ready")
    started, finish = threading.Event(), threading.Event()

    def check() -> None:
        started.set()
        finish.wait(5)

    monkeypatch.setitem(health.CHECKS, "cache", check)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(health.ready)
        assert started.wait(5)
        second = health.ready()
        assert not first.done()
        finish.set()

        assert second.status_code == first.result().status_code == 200
