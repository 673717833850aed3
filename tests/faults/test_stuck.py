"""A process with no thread left, or whose event loop is held up, says so and is replaced.

Each is a site of one process, and five visitors who have nowhere else to go.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import Prepare
from tests.faults.scene import Fault, small_site, watched_site
from tests.faults.table import Note, named
from tests.services import wait_until
from tests.site import Site

pytestmark = pytest.mark.faults

EACH_SERVER = pytest.mark.parametrize("start", ["gunicorn", "uvicorn"])
# Visitors, each of whom may wait in the process that is replaced.
VISITORS = 5


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


def is_replaced(site: Site, worker: int, fault: Fault) -> None:
    """Wait until another process serves; from its first page on the fault is over."""
    wait_until(lambda: "process is replaced" in site.log, "it is noticed", 20)
    noticed = time.monotonic()
    wait_until(lambda: worker not in [w.pid for w in site.workers()], "it is replaced", 60)
    wait_until(lambda: try_to_get(site, "/probe/facts/") == 200, "the new one answers", 30)
    assert site.get("/probe/facts/").json()["pid"] != worker
    fault.over = noticed
    fault.remark = "the process says so, and is replaced"


@EACH_SERVER
@named("all threads are held for 8 s; who waits for longer than the limit gets a 503")
def test_who_waits_for_too_long_gets_a_503(
    start: str, prepared: Prepare, tmp_path: Path, background: ThreadPoolExecutor, note: Note
) -> None:
    with (
        small_site(start, prepared, tmp_path, PROBE_MAX_WAIT="2") as site,
        watched_site(site) as fault,
    ):
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
    assert fault.count("503") > 0
    assert fault.count("200", "201", "503") == sum(fault.outcomes.values()), fault.outcomes
    note(fault)


@EACH_SERVER
@named("views that never return hold all threads", lost=VISITORS)
def test_process_without_a_thread_left_is_replaced(
    start: str, prepared: Prepare, tmp_path: Path, background: ThreadPoolExecutor, note: Note
) -> None:
    """By views that never return. With its own bounds that takes 105 seconds."""
    with (
        small_site(start, prepared, tmp_path, PROBE_STUCK_AFTER="4") as site,
        watched_site(site) as fault,
    ):
        [worker] = site.workers()
        assert site.get("/probe/facts/").json()["pid"] == worker.pid
        site.killed.add(worker.pid)
        for _ in range(3):
            background.submit(try_to_get, site, "/fault/never/")
        if start == "uvicorn":
            # It needs no thread, is on its way when the process is replaced, and is not lost.
            other = background.submit(try_to_get, site, "/async/wait/8/")
            wait_until(lambda: site.get("/health/ready").status_code == 503, "it says so", 20)
            assert "pages" in site.get("/health/ready").json()["checks"]["process"]
            assert other.result() == 200
        is_replaced(site, worker.pid, fault)
    # uvicorn answers the probes of the crowd as well, gunicorn has no thread for them.
    assert start == "gunicorn" or "503" in fault.ready, fault.ready
    note(fault)


@pytest.mark.parametrize("start", ["uvicorn"])
@named("a view blocks the event loop", lost=VISITORS)
def test_process_whose_event_loop_is_held_up_is_replaced(
    start: str, prepared: Prepare, tmp_path: Path, background: ThreadPoolExecutor, note: Note
) -> None:
    with (
        small_site(start, prepared, tmp_path, PROBE_STUCK_AFTER="4") as site,
        watched_site(site) as fault,
    ):
        worker = site.get("/probe/facts/").json()["pid"]
        site.killed.add(worker)
        background.submit(try_to_get, site, "/async/block/20/")
        is_replaced(site, worker, fault)
    assert "none" in fault.ready, fault.ready
    note(fault)


@EACH_SERVER
@named("a view leaks memory up to the limit")
def test_view_that_leaks_memory(start: str, prepared: Prepare, tmp_path: Path, note: Note) -> None:
    """Up to the limit of its process: it fails, other pages do not. (Where the kernel kills
    the process instead, that is a killed worker.)"""
    with small_site(start, prepared, tmp_path) as site, watched_site(site) as fault:
        [worker] = site.workers()
        room = worker.memory_info().vms + 200 * 2**20
        worker.rlimit(psutil.RLIMIT_AS, (room, room))
        leaks = []
        while not leaks or (leaks[-1] == 200 and len(leaks) < 100):
            leaks.append(try_to_get(site, "/fault/leak/"))
        assert leaks[-1] == 500
        fault.remark = f"the view itself: {leaks.count(200)} × 200, then 500"
        pages = [try_to_get(site, "/probe/facts/") for _ in range(20)]
        assert pages == [200] * 20
    assert fault.all_are_answered, fault.outcomes
    note(fault)
