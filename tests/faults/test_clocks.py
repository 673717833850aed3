"""Hosts whose clocks differ, and a clock that jumps (probes/faults_settings.py makes them so)."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import ClientConnection

from tests.combinations import name_of
from tests.faults.scene import COMMANDS, PRODUCTS, Scene, seen_in
from tests.faults.table import Note, named
from tests.site import Site, next_frame, running, say

pytestmark = pytest.mark.faults


@pytest.fixture
def other(scene: Scene, tmp_path: Path) -> Iterator[Site]:
    """Another host of the same site, whose clock is a minute wrong."""
    (tmp_path / "clock").write_text(str({"ahead": 60, "behind": -60}[scene.about.split()[-1]]))
    variables = scene.variables | {"FAULTS_CLOCK": str(tmp_path / "clock"), "WEB_CONCURRENCY": "1"}
    command = COMMANDS["asgi"]
    with running(
        scene.project, command, tmp_path / "log", "uvicorn", seconds=180, **variables
    ) as other:
        other.sessions["ada"] = scene.site.cookies_of("ada")
        other.sessions["bob"] = scene.site.cookies_of("bob")
        yield other


def frames_of(socket: ClientConnection, count: int) -> list[str]:
    """Say something so often at once; return the types of the answers."""
    for number in range(count):
        say(socket, f"number {number}")
    return [next_frame(socket, "stored", "error")["type"] for _ in range(count)]


@pytest.mark.parametrize(
    "stage",
    seen_in(PRODUCTS[2:], "the clock of another host is a minute ahead")
    + seen_in(PRODUCTS[2:], "the clock of another host is a minute behind"),
    indirect=True,
)
def test_hosts_whose_clocks_differ_agree(scene: Scene, note: Note, other: Site) -> None:
    """Who spoke on the one may speak on the other, and not more than on one host; the people in
    a room are the same on both."""
    with scene.fault() as fault:
        with (
            scene.site.socket("/ws/chat/clocks/") as here,
            other.socket("/ws/chat/clocks/") as there,
        ):
            assert frames_of(there, 5) == ["stored"] * 5
            time.sleep(1.5)
            assert frames_of(here, 5) == ["stored"] * 5
            time.sleep(1.5)
            assert "error" in frames_of(there, 4) + frames_of(here, 40), "limited together"
        with (
            scene.site.socket("/ws/chat/who/", user="ada") as here,
            other.socket("/ws/chat/who/", user="bob") as there,
        ):
            for socket in (here, there):
                while next_frame(socket, "people")["names"] != ["ada", "bob"]:
                    pass
            # Nor does one of them go by itself: a look at a list that is made anew.
            with other.socket("/ws/chat/who/", user="ada") as third:
                assert next_frame(third, "people")["names"] == ["ada", "bob"]
    assert fault.all_are_answered, fault.outcomes
    note(fault)


def assert_clocks_are(scene: Scene, ahead: float, people: list[httpx.Client]) -> None:
    """Check how many seconds the clocks of all processes are ahead, and that these people are
    logged in everywhere."""
    halves = {"wsgi": ["fault"], "asgi": ["async"], "both": ["fault", "async"]}
    for half in halves[scene.project.answers["interface"]]:
        # Each half has two processes.
        for client in people * 8:
            found = client.get(f"/{half}/clock/", headers={"Connection": "close"}).json()
            assert found["user"] == "ada", half
            for told in found["times"]:
                assert abs(told - ahead - time.time()) < 100, (half, found)


@pytest.mark.parametrize("stage", PRODUCTS, ids=name_of, indirect=True)
@named("the clock jumps an hour ahead, and 5 s later back")
def test_clock_that_jumps(scene: Scene, note: Note) -> None:
    """Who is logged in stays so, and others can log in, before, during and after it."""
    with ExitStack() as stack:
        people = [stack.enter_context(scene.site.browser("ada"))]
        with scene.fault() as fault:
            scene.clock.write_text("3600")
            time.sleep(1)
            people.append(stack.enter_context(scene.site.browser("ada")))
            assert_clocks_are(scene, 3600, people)
            time.sleep(4)
            scene.clock.write_text("0")
            time.sleep(1)
            people.append(stack.enter_context(scene.site.browser("ada")))
            assert_clocks_are(scene, 0, people)
    assert fault.all_are_answered, fault.outcomes
    note(fault)
