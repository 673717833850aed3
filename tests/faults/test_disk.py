"""Disks that are full: under the SQLite file, the uploads, and the log.

Each is a small file system in memory, which wants root.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.combinations import name_of
from tests.conftest import Bake
from tests.faults.scene import COMMANDS, Fault, Scene, log_lines
from tests.faults.table import Note
from tests.project import PRODUCTION, Project
from tests.services import wait_until
from tests.site import Site, prepare, probes_of, running

pytestmark = pytest.mark.faults

PROJECTS = [
    {"interface": interface, "realtime": "none", "database": "sqlite"}
    for interface in ("wsgi", "asgi")
]


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a file system of so many MiB."""
    if os.geteuid() != 0:
        pytest.skip("A small file system wants root: run this as root.")
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill a file system to its last byte, for the block."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture(scope="module", params=PROJECTS, ids=name_of)
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


def write(site: Site, count: int, of: str) -> list[int]:
    """Write so many rows; return the statuses."""
    return [
        httpx.post(f"{site.origin}/fault/write/x/{of}-{n}/", timeout=30, verify=False).status_code
        for n in range(count)
    ]


def upload(site: Site) -> int:
    files = {"file": ("page.txt", b"x" * 500_000)}
    url = f"{site.origin}/probe/keep/?kind=txt"
    return httpx.post(url, files=files, timeout=30, verify=False).status_code


def seen(name: str, answers: dict[str, int], site: Site, began: int, remark: str) -> Fault:
    return Fault(
        name, answers, {str(site.get("/health/ready").status_code): 1},
        lines=log_lines(site.log[began:]), remark=remark,
    )  # fmt: skip


def test_full_disk_under_sqlite(project: Project, tmp_path: Path, note: Note) -> None:
    """Writes are 503 as in an outage, pages that only read are 200; nothing that was written is
    lost."""
    with small_disk(tmp_path / "disk", 8) as disk:
        url = f"sqlite:///{disk}/db.sqlite3"
        with site_on(project, tmp_path / "log", DATABASE_URL=url) as site:
            assert write(site, 20, "before") == [201] * 20
            began = len(site.log)
            with full(disk):
                # What is in the WAL's file already has room.
                found = write(site, 400, "full")
                assert found[-1] == 503
                assert [site.get("/accounts/login/").status_code for _ in range(5)] == [200] * 5
            lines = len(site.log)
            assert write(site, 20, "after") == [201] * 20
            users = site.get("/probe/query/").json()["users"]
            # Ada and Bob are there as well.
            assert users == 2 + 40 + found.count(201)
            answers = {"200": 5, "201": found.count(201), "503": found.count(503)}
            fault = seen("the disk under SQLite is full", answers, site, began, "pages are 200")
            assert lines
            note(fault, f"{project.answers['interface']}/sqlite")


def test_full_disk_under_uploads(project: Project, tmp_path: Path, note: Note) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        variables = {
            "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
            "MEDIA_ROOT": str(disk / "media"),
        }
        with site_on(project, tmp_path / "log", **variables) as site:
            assert upload(site) == 200
            kept = set((disk / "media").rglob("*.txt"))
            began = len(site.log)
            with full(disk):
                assert [upload(site) for _ in range(3)] == [500] * 3
                assert site.get("/accounts/login/").status_code == 200
            assert upload(site) == 200
            left = len(set((disk / "media").rglob("*.txt")) - kept) - 1
            fault = seen(
                "the disk under uploads is full", {"200": 3, "500": 3}, site, began,
                f"{left} parts of files are left, as by Django's own storage",
            )  # fmt: skip
            note(fault, f"{project.answers['interface']}/sqlite")


def test_full_disk_under_the_log(project: Project, tmp_path: Path, note: Note) -> None:
    """Pages are answered; what was said meanwhile is lost, and the log goes on afterwards."""
    with small_disk(tmp_path / "disk", 4) as disk:
        url = f"sqlite:///{tmp_path}/db.sqlite3"
        with site_on(project, disk / "log", DATABASE_URL=url) as site:
            with full(disk):
                # More than a page of memory, which may have room for the first of them.
                statuses = [site.get("/accounts/login/").status_code for _ in range(60)]
                written = write(site, 5, "full")
            assert statuses == [200] * 60
            assert written == [201] * 5
            began = len(site.log)

            def goes_on() -> bool:
                site.get("/accounts/login/?after=1")
                return len(site.log) > began

            wait_until(goes_on, "the log goes on")
            answers = {"200": 60, "201": 5}
            fault = seen("the disk under the log is full", answers, site, began, "the log goes on")
            note(fault, f"{project.answers['interface']}/sqlite")
