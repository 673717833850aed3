"""Servers and workers that are killed, stopped, and replaced by something broken."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.combinations import name_of
from tests.faults.scene import EVERY_PAIR, PRODUCTS, Scene
from tests.faults.table import Note
from tests.services import answers, wait_until
from tests.site import wait_for_exit

pytestmark = pytest.mark.faults


@EVERY_PAIR
def test_killed_worker(scene: Scene, note: Note) -> None:
    """Who has a request there loses it, as everywhere; nobody else notices."""
    workers = {worker.pid for worker in scene.site.workers()}
    with scene.fault("a worker is killed") as fault:
        scene.site.kill(next(iter(workers)))
        wait_until(lambda: scene.workers_are_new(workers, False), "another one starts", pause=0.3)
    assert fault.lost <= len(scene.crowd.visitors)
    note(fault)


@EVERY_PAIR
def test_all_workers_killed(scene: Scene, note: Note) -> None:
    workers = {worker.pid for worker in scene.site.workers()}
    with scene.fault("all workers are killed at once") as fault:
        for worker in workers:
            scene.site.kill(worker)
        wait_until(lambda: scene.workers_are_new(workers), "others start", pause=0.3)
    assert fault.lost <= 2 * len(scene.crowd.visitors)
    note(fault)


@EVERY_PAIR
def test_sighup(scene: Scene, note: Note) -> None:
    workers = {worker.pid for worker in scene.site.workers()}
    with scene.fault("SIGHUP: a deploy") as fault:
        scene.signal_masters(signal.SIGHUP)
        wait_until(lambda: scene.workers_are_new(workers), "all workers are replaced", 90, 0.3)
    assert fault.count("200", "201") == sum(fault.outcomes.values()), fault.outcomes
    note(fault)


def test_killed_master_leaves_no_orphan_on_its_port(scene: Scene, note: Note) -> None:
    """What started it, such as systemd, starts it again. In `both`, that is this test."""
    with scene.fault("the server's first process is killed; started again") as fault:
        family = {process.pid for process in scene.site.note_family()}
        for master in scene.masters():
            master.kill()
        began = time.monotonic()
        wait_until(lambda: not answers(scene.port), "nobody listens", 40)
        wait_for_exit([*family - {scene.site.process.pid}], 40)
        fault.remark = f"the port is free after {time.monotonic() - began:.1f} s"
        scene.start_again()
    note(fault)


def test_broken_version_leaves_the_old_one(scene: Scene, note: Note) -> None:
    """gunicorn has loaded the site before it forks, so that SIGHUP brings no new version."""
    workers = {worker.pid for worker in scene.site.workers()}
    before = scene.site.log.count("aborting the restart")
    scene.release.write_text("broken")
    with scene.fault("SIGHUP with a version that cannot be imported") as fault:
        scene.signal_masters(signal.SIGHUP)
        if not scene.project.is_(interface="wsgi"):
            wait_until(
                lambda: scene.site.log.count("aborting the restart") > before, "it is told", 60, 0.3
            )
        time.sleep(3)
        scene.release.write_text("")
    if scene.project.is_(interface="asgi"):
        # The new one may still be on its way out.
        wait_until(lambda: {one.pid for one in scene.site.workers()} == workers, "the old ones")
    assert fault.count("200", "201") == sum(fault.outcomes.values()), fault.outcomes
    note(fault)


@pytest.mark.parametrize("stage", PRODUCTS[1:2], ids=name_of, indirect=True)
def test_start_that_takes_too_long_leaves_the_old_one(scene: Scene, note: Note) -> None:
    """Longer than timeout_worker_healthcheck. A first start may take as long as it likes."""
    workers = {worker.pid for worker in scene.site.workers()}
    before = scene.site.log.count("aborting the restart")
    scene.release.write_text("45")
    with scene.fault("SIGHUP with a version that takes 45 s to start") as fault:
        scene.signal_masters(signal.SIGHUP)
        wait_until(
            lambda: scene.site.log.count("aborting the restart") > before, "it is told", 90, 0.3
        )
        scene.release.write_text("")
    wait_until(lambda: {one.pid for one in scene.site.workers()} == workers, "the old ones")
    assert fault.count("200", "201") == sum(fault.outcomes.values()), fault.outcomes
    note(fault)


@EVERY_PAIR
def test_sigterm_under_load_answers_all_it_has(scene: Scene, note: Note) -> None:
    """With slow requests and idle connections beside all others; everybody comes back."""
    with scene.fault("SIGTERM with slow requests, idle connections, sockets and streams open; "
                     "started again") as fault, ThreadPoolExecutor(5) as pool:  # fmt: skip
        idle = [httpx.Client(base_url=scene.site.origin, verify=False) for _ in range(10)]
        assert all(client.get("/health/live").status_code == 200 for client in idle)
        slow = [pool.submit(scene.site.get, "/probe/slow/") for _ in range(5)]
        time.sleep(1)
        began = time.monotonic()
        scene.site.stop(30)
        fault.remark = f"stopped in {time.monotonic() - began:.1f} s, 5 of 5 slow requests answered"
        assert [each.result().status_code for each in slow] == [200] * 5
        for client in idle:
            client.close()
        scene.start_again()
    # Who was in line when the port was closed is refused by the kernel, which says "reset".
    assert fault.lost <= len(scene.crowd.visitors), fault.outcomes
    note(fault)
