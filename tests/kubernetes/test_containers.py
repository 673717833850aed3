"""The containers as they would run: one with each server and each kind of live updates."""

from pathlib import Path

import httpx
import pytest

from tests import services
from tests.combinations import name_of
from tests.conftest import Bake
from tests.kubernetes.cluster import (
    MIGRATION,
    PLACES,
    SERVERS,
    Cluster,
    Manifest,
    build,
    container_of,
)
from tests.project import PRODUCTION
from tests.services import free_port
from tests.site import running

pytestmark = pytest.mark.deploy

STARTED = [
    answers
    for answers in PLACES
    if (answers["interface"], answers["realtime"])
    in {("wsgi", "none"), ("asgi", "channels"), ("both", "sse")}
]


@pytest.mark.parametrize("answers", STARTED, ids=name_of)
def test_containers_need_nothing_but_their_environment(
    answers: dict[str, str],
    install: Bake,
    postgresql: services.PostgreSQL,
    redis: str,
    tmp_path: Path,
) -> None:
    """The migration, then each server until its probes are content, then its end."""
    project = install(**answers)
    cluster = Cluster(project, build(project.path / SERVERS), build(project.path / MIGRATION))
    secret = {
        "DJANGO_SECRET_KEY": PRODUCTION["DJANGO_SECRET_KEY"],
        "DATABASE_URL": postgresql.new_database(),
        "REDIS_URL": redis,
        "EMAIL_URL": "smtp+tls://user:password@mail.example.com:587",
    }
    # A person's .env is no part of the image.
    (project.path / ".env").unlink(missing_ok=True)

    def variables_of(pod: Manifest) -> dict[str, str]:
        return cluster.settings | {
            variable["name"]: variable.get("value") or secret[variable["name"]]
            for variable in container_of(pod)["env"]
        }

    migrate = cluster.pods["migrate"]
    output = project.must(*container_of(migrate)["command"], **variables_of(migrate))
    assert "Applying users.0001_initial... OK" in output
    project.must("python", "manage.py", "collectstatic", "--no-input", **variables_of(migrate))

    for role in cluster.roles:
        pod = cluster.pods[role]
        container = container_of(pod)
        variables = variables_of(pod) | {"HOST": "127.0.0.1"}
        log, port = tmp_path / f"{role}.log", free_port(3)
        with running(project, container["command"], log, port=port, **variables) as site:
            for name in ("startup", "readiness", "liveness"):
                probe = container[f"{name}Probe"]
                # The kubelet names the pod's address as host, and trusts no certificate.
                answer = httpx.get(
                    f"http://127.0.0.1:{port}{probe['httpGet']['path']}",
                    timeout=probe["timeoutSeconds"],
                )
                assert answer.status_code == 200, answer.text
            assert len(site.workers()) == int(variables["WEB_CONCURRENCY"])
            assert site.stop(pod["spec"]["terminationGracePeriodSeconds"]) == 0
