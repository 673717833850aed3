"""Servers and workers that are killed, stopped, and replaced by something broken."""

import signal
import time

import pytest

from tests.faults.scene import Scene
from tests.faults.table import Note
from tests.services import answers, wait_until
from tests.site import wait_for_exit

pytestmark = pytest.mark.faults


def test_killed_worker(scene: Scene, note: Note) -> None:
    """Who has a request there loses it, as everywhere; nobody else notices."""
    workers = {worker.pid for worker in scene.site.workers()}
    with scene.fault("a worker is killed") as fault:
        scene.site.kill(next(iter(workers)))
        wait_until(lambda: scene.workers_are_new(workers, False), "another one starts", pause=0.3)
    assert fault.lost <= len(scene.crowd.visitors)
    note(fault)


def test_all_workers_killed(scene: Scene, note: Note) -> None:
    workers = {worker.pid for worker in scene.site.workers()}
    with scene.fault("all workers are killed at once") as fault:
        for worker in workers:
            scene.site.kill(worker)
        wait_until(lambda: scene.workers_are_new(workers), "others start", pause=0.3)
    assert fault.lost <= 2 * len(scene.crowd.visitors)
    note(fault)


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
