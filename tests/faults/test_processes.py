"""Servers and workers that are killed, stopped, and replaced by something broken."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.combinations import name_of
from tests.faults.scene import (
    AND_ON_SQLITE,
    COMMANDS,
    EVERY_PAIR,
    PAIRS,
    PRODUCTS,
    Scene,
    seen_in,
)
from tests.faults.table import Note, named
from tests.services import answers, wait_until
from tests.site import wait_for_exit

pytestmark = pytest.mark.faults

# uvicorn's half is new after SIGHUP; gunicorn has loaded the site before it forks.
WITH_UVICORN = [pair for pair in PAIRS if pair["interface"] != "wsgi"]
# How many clients may have a request in a worker that is killed.
CLIENTS = 20


def kill(scene: Scene, workers: set[int]) -> int:
    """Kill workers; return how many requests may have been in them."""
    began = time.monotonic()
    for worker in workers:
        scene.site.kill(worker)
    # Until the kernel has closed their connections.
    wait_for_exit([*workers])
    return scene.crowd.under_way(began, time.monotonic())


@AND_ON_SQLITE
@named("a worker is killed", lost=CLIENTS)
def test_killed_worker(scene: Scene, note: Note) -> None:
    """Who has a request there loses it, as everywhere; nobody else notices."""
    workers = {worker.pid for worker in scene.site.workers()}
    with scene.fault() as fault:
        under_way = kill(scene, {min(workers)})
        wait_until(lambda: scene.workers_are_new(workers, False), "another one starts", pause=0.3)
    assert fault.lost <= under_way, fault.outcomes
    note(fault)


@AND_ON_SQLITE
@named("all workers are killed at once", lost=CLIENTS, lines=60)
def test_all_workers_killed(scene: Scene, note: Note) -> None:
    workers = {worker.pid for worker in scene.site.workers()}
    with scene.fault() as fault:
        under_way = kill(scene, workers)
        wait_until(lambda: scene.workers_are_new(workers), "others start", pause=0.3)
    assert fault.lost <= under_way, fault.outcomes
    note(fault)


@pytest.mark.parametrize(
    "stage",
    seen_in(PAIRS[:1], "SIGHUP: new workers of the same version")
    + seen_in(WITH_UVICORN, "SIGHUP: a deploy"),
    indirect=True,
)
def test_sighup(scene: Scene, note: Note) -> None:
    workers = {worker.pid for worker in scene.site.workers()}
    with scene.fault() as fault:
        scene.signal_masters(signal.SIGHUP)
        wait_until(lambda: scene.workers_are_new(workers), "all workers are replaced", 90, 0.3)
    assert fault.all_are_answered, fault.outcomes
    note(fault)


@pytest.mark.parametrize("stage", PRODUCTS[:1], ids=name_of, indirect=True)
class TestKeptSocket:
    """gunicorn gets a new version by a restart: new clients wait meanwhile in the socket, which
    systemd keeps. deploy/systemd/install.sh restarts the old one if the new one does not work."""

    @pytest.fixture(autouse=True)
    def kept(self, scene: Scene) -> None:
        scene.site.stop()
        scene.command = ["python", "-m", "keeper", *COMMANDS["wsgi"]]
        scene.start_again()

    @pytest.fixture(autouse=True)
    def usual(self, stage: Scene, kept: None) -> object:
        yield
        stage.site.stop()
        stage.command = COMMANDS["wsgi"]
        stage.start_again()

    @named("restart on the socket that systemd keeps: a deploy")
    def test_deploy(self, scene: Scene, note: Note) -> None:
        old = {process.pid for process in scene.site.note_family()} - {scene.site.process.pid}
        with scene.fault() as fault:
            scene.site.process.send_signal(signal.SIGHUP)
            wait_for_exit([*old], 40)
        assert fault.all_are_answered, fault.outcomes
        note(fault)

    @named("the same with a version that cannot be imported, and back to the old one", lines=60)
    def test_broken_version(self, scene: Scene, note: Note) -> None:
        before = scene.site.log.count("This version is broken")
        with scene.fault() as fault:
            scene.release.write_text("broken")
            scene.site.process.send_signal(signal.SIGHUP)
            wait_until(
                lambda: scene.site.log.count("This version is broken") > before, "it is told", 60
            )
            scene.release.write_text("")
            scene.site.process.send_signal(signal.SIGHUP)
        assert fault.all_are_answered, fault.outcomes
        note(fault)


@EVERY_PAIR
@named("the server's first process is killed; started again")
def test_killed_master_leaves_no_orphan_on_its_port(scene: Scene, note: Note) -> None:
    """What started it, such as systemd, starts it again. In `both`, that is this test."""
    with scene.fault() as fault:
        family = {process.pid for process in scene.site.note_family()}
        for master in scene.masters():
            master.kill()
        began = time.monotonic()
        wait_until(lambda: not answers(scene.port), "nobody listens", 10)
        wait_for_exit([*family - {scene.site.process.pid}], 10)
        fault.remark = f"the port is free after {time.monotonic() - began:.1f} s"
        scene.start_again()
    note(fault)


@pytest.mark.parametrize("stage", PRODUCTS[1:], ids=name_of, indirect=True)
@named("SIGHUP with a version that cannot be imported", lines=100)
def test_broken_version_leaves_the_old_one(scene: Scene, note: Note) -> None:
    gunicorn, workers = scene.workers_of("gunicorn"), scene.workers_of("config.uvicorn_conf")
    before = scene.site.log.count("aborting the restart")
    scene.release.write_text("broken")
    with scene.fault() as fault:
        scene.signal_masters(signal.SIGHUP)
        wait_until(
            lambda: scene.site.log.count("aborting the restart") > before, "it is told", 60, 0.3
        )
        time.sleep(3)
        scene.release.write_text("")
    # The new ones may still be on their way out. gunicorn's are of the old version, too.
    wait_until(lambda: scene.workers_of("config.uvicorn_conf") == workers, "the old ones stay")
    assert len(scene.workers_of("gunicorn")) == len(gunicorn)
    assert fault.all_are_answered, fault.outcomes
    note(fault)


@pytest.mark.parametrize("stage", PRODUCTS[1:], ids=name_of, indirect=True)
@named("SIGHUP with a version that takes 45 s to start")
def test_start_that_takes_too_long_leaves_the_old_one(scene: Scene, note: Note) -> None:
    """Longer than timeout_worker_healthcheck. A first start may take as long as it likes."""
    gunicorn, workers = scene.workers_of("gunicorn"), scene.workers_of("config.uvicorn_conf")
    before = scene.site.log.count("aborting the restart")
    scene.release.write_text("45")
    with scene.fault() as fault:
        scene.signal_masters(signal.SIGHUP)
        wait_until(
            lambda: scene.site.log.count("aborting the restart") > before, "it is told", 90, 0.3
        )
        scene.release.write_text("")
    wait_until(lambda: scene.workers_of("config.uvicorn_conf") == workers, "the old ones stay")
    assert len(scene.workers_of("gunicorn")) == len(gunicorn)
    assert fault.all_are_answered, fault.outcomes
    note(fault)


@AND_ON_SQLITE
@named(
    "SIGTERM with slow requests, idle connections, sockets and streams open; started again",
    lines=40,
)
def test_sigterm_under_load_answers_all_it_has(scene: Scene, note: Note) -> None:
    """With slow requests and idle connections beside all others; everybody comes back."""
    with scene.fault() as fault, ThreadPoolExecutor(5) as pool:
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
    note(fault)
