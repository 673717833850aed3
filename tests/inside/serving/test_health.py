import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import Client

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


def test_site_is_not_ready_when_a_check_fails(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("connection refused by db.internal")

    monkeypatch.setitem(health.CHECKS, "database", fail)
    response = client.get("/health/ready")

    assert response.status_code == 503
    assert response.json()["checks"]["database"] == "failed"
    assert "db.internal" not in response.content.decode()
    assert client.get("/health/live").status_code == 200


def test_process_that_is_stuck_is_not_ready(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health.overseer, "problem", lambda: "Nothing gets on.")

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

    assert response.status_code == 503
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
