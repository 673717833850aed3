"""Disks that are full: under the SQLite file, the uploads, and the log.

Each is a small file system in memory, which wants root.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.combinations import name_of
from tests.conftest import Bake
from tests.faults.disk import full, small_disk
from tests.faults.scene import COMMANDS, ON_SQLITE, Scene, watched_site
from tests.faults.table import Note, named
from tests.project import PRODUCTION, Project
from tests.services import wait_until
from tests.site import Site, prepare, probes_of, running

pytestmark = pytest.mark.faults

PROJECTS = [
    {"interface": interface, "realtime": "none", "database": "sqlite"}
    for interface in ("wsgi", "asgi")
]
EACH_PROJECT = pytest.mark.parametrize("project", PROJECTS, ids=name_of, indirect=True)


@pytest.fixture
def project(request: pytest.FixtureRequest, install: Bake) -> Project:
    return install(**request.param)


@contextmanager
def site_on(project: Project, log: Path, **variables: str) -> Iterator[Site]:
    Scene.copy_probes(project)
    variables = PRODUCTION | {
        "DJANGO_SETTINGS_MODULE": "faults_settings",
        "PYTHONPATH": str(probes_of(project)),
        "DJANGO_HTTPS": "false",
        "WEB_CONCURRENCY": "2",
    } | variables  # fmt: skip
    prepare(project, **variables)
    command = COMMANDS[project.answers["interface"]]
    with running(project, command, log, "faults", **variables) as site:
        yield site


def upload(site: Site) -> httpx.Response:
    files = {"file": ("page.txt", b"x" * 500_000)}
    return httpx.post(f"{site.origin}/probe/keep/?kind=txt", files=files, timeout=30, verify=False)


@pytest.mark.parametrize("stage", ON_SQLITE, ids=name_of, indirect=True)
@named("the disk under SQLite is full for 8 s")
def test_full_disk_under_sqlite(scene: Scene, note: Note) -> None:
    """Writes are 503 as in an outage, pages that only read are 200. What was acknowledged is
    there afterwards: also messages of the chat, and notifications."""
    with scene.fault() as fault, full(scene.disk):
        # What is in the WAL's file already has room for a while.
        wait_until(lambda: scene.crowd.outcomes["503"] > 0, "a write is refused", 60)
        time.sleep(8)
        pages = [scene.site.get("/accounts/login/").status_code for _ in range(5)]
    assert pages == [200] * 5
    fault.stays_ready()
    assert fault.count("200", "201", "503") == sum(fault.outcomes.values()), fault.outcomes
    assert "database is away" in scene.site.log
    note(fault)


@EACH_PROJECT
@named("the disk under uploads is full")
def test_full_disk_under_uploads(project: Project, tmp_path: Path, note: Note) -> None:
    """An upload is told to come again, and the log has a line and no traceback."""
    with small_disk(tmp_path / "disk", 4) as disk:
        variables = {
            "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
            "MEDIA_ROOT": str(disk / "media"),
        }
        with site_on(project, tmp_path / "log", **variables) as site:
            assert upload(site).status_code == 200
            kept = set((disk / "media").rglob("*.txt"))
            with watched_site(site) as fault:
                with full(disk):
                    refused = [upload(site) for _ in range(3)]
                assert upload(site).status_code == 200
            assert [each.status_code for each in refused] == [503] * 3
            assert all(int(each.headers["Retry-After"]) > 0 for each in refused)
            assert "storage is away" in site.log
            assert "No space left on device" in site.log
            assert "Traceback" not in site.log
            left = len(set((disk / "media").rglob("*.txt")) - kept) - 1
    assert fault.all_are_answered, fault.outcomes
    fault.remark = (
        f"uploads: 3 of 3 × 503; {left} parts of files are left, as by Django's own storage"
    )
    note(fault)


@EACH_PROJECT
@named("the disk under the log is full")
def test_full_disk_under_the_log(project: Project, tmp_path: Path, note: Note) -> None:
    """Pages are answered; what was said meanwhile is lost, and the log goes on afterwards."""
    with small_disk(tmp_path / "disk", 4) as disk:
        url = f"sqlite:///{tmp_path}/db.sqlite3"
        with site_on(project, disk / "log", DATABASE_URL=url) as site:
            with watched_site(site) as fault, full(disk):
                began = len(site.log)
                # More than a page of memory, which may have room for the first of them.
                statuses = [site.get("/accounts/login/").status_code for _ in range(60)]
                assert len(site.log) < began + 4096
            assert statuses == [200] * 60
            began = len(site.log)

            def goes_on() -> bool:
                site.get("/accounts/login/?after=1")
                return len(site.log) > began

            wait_until(goes_on, "the log goes on")
    assert fault.all_are_answered, fault.outcomes
    fault.remark = "the log goes on"
    note(fault)
