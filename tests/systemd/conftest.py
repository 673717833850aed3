"""Each combination with units, and a machine on which one is installed."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.combinations import name_of
from tests.conftest import Bake
from tests.machine import machine
from tests.project import Project
from tests.services import missing, wait_until
from tests.systemd.installed import DOMAIN, MACHINES, Installed
from tests.systemd.units import SYSTEMD


@pytest.fixture(scope="session", params=SYSTEMD, ids=name_of)
def emitted(request: pytest.FixtureRequest, bake: Bake) -> Project:
    """Each combination with units, as baked."""
    if not shutil.which("systemd-analyze"):
        missing("systemd-analyze", "systemd")
    return bake(**request.param)


@pytest.fixture(scope="package", params=MACHINES, ids=lambda answers: f"{name_of(answers)}-machine")
def site(
    request: pytest.FixtureRequest,
    bake: Bake,
    install: Bake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installed]:
    """A machine to which somebody comes with a project, and does what the script says."""
    # uv has then fetched what the machine, which has no network, installs.
    lock = install(**request.param).path / "uv.lock"
    project = bake(**request.param, deployment="systemd")
    folder = tmp_path_factory.mktemp("machine")
    mounts = {project.path: "/srv/checkout"}
    url = ""
    if project.is_(database="postgresql"):
        server = request.getfixturevalue("postgresql")
        url = server.new_database()
        sockets = next(Path("/tmp").glob(f"tests-postgresql-*/.s.PGSQL.{server.port}")).parent
        sockets.chmod(0o711)
        mounts[sockets] = "/srv/postgresql"
        url = url.replace("127.0.0.1", "%2Fsrv%2Fpostgresql")
    with machine(folder, mounts) as running:
        found = Installed(running, project.path, project)

        def stopped() -> None:
            run = found.install()
            assert run.returncode == 1
            found.said.append(run.stdout)

        stopped()
        shutil.copy(lock, project.path)
        stopped()
        if url:
            assert re.search(r"^DATABASE_URL=$", found.environment.read_text(), re.M)
            found.environment.write_text(
                found.environment.read_text().replace("DATABASE_URL=\n", f"DATABASE_URL={url}\n")
            )
            stopped()
        running.must(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={DOMAIN}",
            "-keyout", "/root/privkey.pem", "-out", "/root/fullchain.pem",
        )  # fmt: skip
        running.must("mkdir", "-p", f"/etc/letsencrypt/live/{DOMAIN}")
        running.must("cp", "/root/privkey.pem", "/root/fullchain.pem",
                     f"/etc/letsencrypt/live/{DOMAIN}")  # fmt: skip
        run = found.install()
        assert run.returncode == 0, run.stdout
        found.said.append(run.stdout)
        # nginx takes a moment to change over.
        wait_until(lambda: found.status("/", "http") == 301, "plain http is sent to https", 20)
        yield found
