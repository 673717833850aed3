"""A process with no thread left, or whose event loop is held up, says so and is replaced."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import Prepare
from tests.faults.scene import Fault, Scene, log_lines
from tests.faults.table import Note
from tests.services import wait_until
from tests.site import COMMANDS, Site, running

pytestmark = pytest.mark.faults

ANSWERS = {"interface": "both", "realtime": "none", "database": "sqlite"}


@contextmanager
def small_site(start: str, prepared: Prepare, folder: Path, **bounds: str) -> Iterator[Site]:
    """Run a site of one process whose pools have three threads at most."""
    project, variables = prepared(ANSWERS)
    Scene.copy_probes(project)
    variables = variables | {"DJANGO_SETTINGS_MODULE": "faults_settings"}
    variables = variables | {"WEB_CONCURRENCY": "1", "PROBE_THREADS": "3"} | bounds
    with running(project, COMMANDS[start], folder / "log", start, **variables) as site:
        # The first request brings the bounds.
        assert site.get("/probe/facts/").status_code == 200
        yield site


@pytest.fixture(params=["gunicorn", "uvicorn"])
def start(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as pool:
        yield pool


def try_to_get(site: Site, path: str) -> int:
    """Return the status of an answer, 0 for none."""
    try:
        return site.get(path).status_code
    except httpx.HTTPError:
        return 0


def test_who_waits_for_too_long_gets_a_503(
    start: str, prepared: Prepare, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    with small_site(start, prepared, tmp_path, PROBE_MAX_WAIT="2") as site:
        held = [background.submit(try_to_get, site, "/probe/wait/8/") for _ in range(3)]
        time.sleep(1)
        refused = site.get("/probe/facts/")

        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert "no thread became free" in site.log
        if start == "gunicorn":
            assert "raise MAX_THREADS" in site.log
        else:
            assert '"pool": "pages", "path": "/probe/facts/"' in site.log
            assert "release_thread()" in site.log
        assert [each.result() for each in held] == [200, 200, 200]
        assert site.get("/probe/facts/").status_code == 200


def test_process_without_a_thread_left_is_replaced(
    start: str, prepared: Prepare, tmp_path: Path, background: ThreadPoolExecutor, note: Note
) -> None:
    """By views that never return. With its own bounds that takes 105 seconds."""
    with small_site(start, prepared, tmp_path, PROBE_STUCK_AFTER="4") as site:
        [worker] = site.workers()
        assert site.get("/probe/facts/").json()["pid"] == worker.pid
        site.killed.add(worker.pid)
        for _ in range(3):
            background.submit(try_to_get, site, "/fault/never/")
        time.sleep(1)
        background.submit(try_to_get, site, "/probe/facts/")
        if start == "uvicorn":
            # It needs no thread, is on its way when the process is replaced, and is not lost.
            other = background.submit(try_to_get, site, "/async/wait/6/")
            wait_until(lambda: site.get("/health/ready").status_code == 503, "it says so", 20)
            assert "pages" in site.get("/health/ready").json()["checks"]["process"]
            assert other.result() == 200

        wait_until(lambda: "process is replaced" in site.log, "it is noticed", 20)
        wait_until(lambda: [w.pid for w in site.workers()] != [worker.pid], "it is replaced", 60)
        wait_until(lambda: try_to_get(site, "/probe/facts/") == 200, "the new one answers", 30)
        assert site.get("/probe/facts/").json()["pid"] != worker.pid
        fault = Fault("views that never return hold all threads", {"201": 1}, {"503": 1})
        fault.remark = "the process says so, and is replaced"
        fault.lines = log_lines(site.log)
        note(fault, start)


def test_process_whose_event_loop_is_held_up_is_replaced(
    prepared: Prepare, tmp_path: Path, background: ThreadPoolExecutor, note: Note
) -> None:
    with small_site("uvicorn", prepared, tmp_path, PROBE_STUCK_AFTER="4") as site:
        worker = site.get("/probe/facts/").json()["pid"]
        site.killed.add(worker)
        background.submit(try_to_get, site, "/async/block/20/")

        wait_until(lambda: "process is replaced" in site.log, "it is noticed", 20)
        wait_until(lambda: [w.pid for w in site.workers()] != [worker], "it is replaced", 60)
        wait_until(lambda: try_to_get(site, "/probe/facts/") == 200, "the new one answers", 30)
        assert site.get("/probe/facts/").json()["pid"] != worker
        fault = Fault("a view blocks the event loop", {"201": 1}, {"none": 1})
        fault.remark = "the process is replaced"
        fault.lines = log_lines(site.log)
        note(fault, "uvicorn")


def test_view_that_leaks_memory(start: str, prepared: Prepare, tmp_path: Path, note: Note) -> None:
    """Up to the limit of its process: it fails, other pages do not. (Where the kernel kills
    the process instead, that is a killed worker.)"""
    with small_site(start, prepared, tmp_path) as site:
        [worker] = site.workers()
        room = worker.memory_info().vms + 200 * 2**20
        worker.rlimit(psutil.RLIMIT_AS, (room, room))
        leaks = []
        while not leaks or (leaks[-1] == 200 and len(leaks) < 100):
            leaks.append(try_to_get(site, "/fault/leak/"))
        assert leaks[-1] == 500
        pages = [try_to_get(site, "/probe/facts/") for _ in range(20)]
        assert pages == [200] * 20
        fault = Fault(
            "a view leaks memory up to the limit", {"200": 20 + leaks.count(200), "500": 1}
        )
        fault.remark = "other pages are answered"
        fault.lines = log_lines(site.log)
        note(fault, start)
