"""The emitted chat on its production servers, while workers, Redis and cables fail."""

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.combinations import SITES, name_of
from tests.conftest import Prepare
from tests.house import House
from tests.site import RESTARTED, Site, close_code, next_frame, probes_of, running
from tests.talk import Talk

pytestmark = pytest.mark.serve

# Each combination in one of its ways.
STARTS = {
    "asgi-sqlite": "uvicorn",
    "asgi-postgresql": "uvicorn",
    "both-sqlite": "caddy",
    "both-postgresql": "caddy",
}
WAYS = [
    (answers, STARTS[f"{answers['interface']}-{answers['database']}"])
    for answers in SITES
    if answers["realtime"] == "channels"
]


@pytest.fixture(
    scope="module", params=WAYS, ids=[f"{name_of(answers)}-{start}-chat" for answers, start in WAYS]
)
def house(
    request: pytest.FixtureRequest, prepared: Prepare, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Each combination in turn. The tests run in their order."""
    answers, start = request.param
    project, variables = prepared(answers)
    with House(project, start, tmp_path_factory.mktemp("house"), variables) as house:
        yield house


@pytest.fixture(scope="module")
def talk(house: House) -> Iterator[Talk]:
    """Six people, two of them behind a cable of their own, in the room `faults`."""
    talk = Talk()
    cables = [talk.cable(house.port) for _ in range(2)]
    ports = [house.port] * 4 + [cable.port for cable in cables]
    talk.begin(
        *(
            (
                f"{user}-{number}",
                f"ws://localhost:{port}/ws/chat/faults/",
                {"Cookie": house.site.cookies_of(user)},
                f"http://localhost:{port}",
            )
            for number, (user, port) in enumerate(zip(["ada", "bob"] * 3, ports, strict=True))
        )
    )
    yield talk
    talk.end()


def stored_keys(house: House, room: str) -> list[str]:
    """Return the keys of the messages of a room, in their order."""
    return json.loads(
        house.shell(
            f"import json; from {house.project.slug}.chat.models import Message\n"
            f"of_room = Message.objects.filter(room__name={room!r})\n"
            "print(json.dumps(list(of_room.order_by('pk').values_list('key', flat=True))))"
        ).splitlines()[-1]
    )


@pytest.mark.parametrize(
    "fault", ["killed worker", "Redis restarted", "cable cut", "server restarted"]
)
def test_nothing_is_lost_and_nothing_is_heard_twice(house: House, talk: Talk, fault: str) -> None:
    before = [person.connections for person in talk.people]
    talk.talking = True
    time.sleep(2)

    if fault == "killed worker":
        ours = {connection.pid for connection in psutil.net_connections("tcp")
                if connection.laddr.port in (house.site.port, house.site.port + 2)
                and connection.status == psutil.CONN_ESTABLISHED}  # fmt: skip
        victim = next(worker.pid for worker in house.site.workers() if worker.pid in ours)
        house.site.kill(victim)
    elif fault == "Redis restarted":
        house.restart_redis()
    elif fault == "cable cut":
        for cable in talk.cables:
            talk.loop.call_soon_threadsafe(cable.whole.clear)
        time.sleep(6)
        for cable in talk.cables:
            talk.loop.call_soon_threadsafe(cable.whole.set)
    else:
        house.restart_site()
    time.sleep(2)

    said = talk.settle()
    assert sorted(stored_keys(house, "faults")) == said
    everything = talk.people[0].heard
    assert len(everything) == len(said)
    for person in talk.people:
        assert person.heard == everything
        assert person.heard == sorted(set(person.heard))
    after = [person.connections for person in talk.people]
    if fault == "Redis restarted":
        assert after == before, "no socket ends because of Redis"
    else:
        assert after != before


def test_log_tells_of_the_faults_and_of_nothing_else(house: House, talk: Talk) -> None:
    house.site.assert_clean_log(but_for=rf"{RESTARTED}|Redis is away", restarted=True)


@pytest.mark.parametrize("way", ["view", "command", "thread"])
def test_anything_on_the_server_can_speak_in_a_room(house: House, way: str) -> None:
    """Twice in a row: what is bound to an event loop works once."""
    site = house.site
    room = f"from-a-{way}"
    say = (
        f"from {site.project.slug}.users.models import User\n"
        f"from {site.project.slug}.chat.posting import publish\n"
        "ada = User.objects.get(username='ada')\n"
    )
    thread = (
        "import threading\n"
        "for text in ('first', 'second'):\n"
        f"    one = threading.Thread(target=publish, args=({room!r}, ada, text))\n"
        "    one.start()\n"
        "    one.join()\n"
    )
    command = f"for text in ('first', 'second'): publish({room!r}, ada, text)\n"
    with site.socket(path=f"/ws/chat/{room}/") as listener:
        next_frame(listener, "people")
        if way == "view":
            for text in ("first", "second"):
                assert site.get(f"/probe/publish/{room}/{text}/").status_code == 200
        else:
            code = say + (thread if way == "thread" else command)
            house.shell(code)
        assert [next_frame(listener, "message")["text"] for _ in range(2)] == ["first", "second"]


@pytest.mark.parametrize("end", ["logout", "deactivated", "password"])
def test_socket_ends_with_its_session(house: House, end: str) -> None:
    site = house.site
    user = {"logout": "ada", "deactivated": "bob", "password": "bob"}[end]
    change = {"deactivated": "is_active=False", "password": "password='x'"}
    with site.browser(user) as client:
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        other = site.socket(path="/ws/chat/ends/", user="ada" if user == "bob" else "bob")
        with (
            other,
            site.socket(path="/ws/chat/ends/", user=None, headers={"Cookie": cookie}) as socket,
        ):
            next_frame(socket, "people")
            if end == "logout":
                site.submit(client, "/", to="/accounts/logout/")
            else:
                name, value = change[end].split("=")
                house.shell(
                    f"from {site.project.slug}.users.models import User\n"
                    f"bob = User.objects.get(username='bob')\nold = bob.{name}\n"
                    f"bob.{name} = {value}\nbob.save()\n"
                    # Back again without a word.
                    f"import time; time.sleep(2)\n"
                    f"User.objects.filter(pk=bob.pk).update({name}=old)\n"
                )
            assert close_code(socket) == 4401
            other.send(json.dumps({"type": "ping"}))
            next_frame(other, "pong")
    site.sessions.clear()


def test_slow_readers_do_not_make_memory_grow(house: House) -> None:
    """Five of them, who read nothing of 8 MB; then one reads all of it, in order."""
    site = house.site
    room, count = "slow", 1000
    with ExitStack() as stack:
        readers = [
            stack.enter_context(slow_reader(site, f"/ws/chat/{room}/?after=0")) for _ in range(5)
        ]
        time.sleep(1)
        before = memory_of(site)
        house.shell(
            f"from {site.project.slug}.users.models import User\n"
            f"from {site.project.slug}.chat.posting import publish\n"
            "ada = User.objects.get(username='ada')\n"
            f"for number in range({count}): publish({room!r}, ada, f'{{number}} ' + '👋' * 1990)"
        )
        time.sleep(2)
        assert memory_of(site) - before < 5
        readers[0].settimeout(30)
        data = bytearray()
        while data.count(b'"type": "message"') < count:
            piece = readers[0].recv(1 << 20)
            assert piece, "a slow reader is not thrown out while it reads"
            data += piece
        numbers = [int(n) for n in re.findall(rb'"text": "(\d+) ', bytes(data))]
        assert numbers == list(range(count))


def slow_reader(site: Site, path: str) -> socket.socket:
    """Open a WebSocket with a small window, of which nothing is read."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", site.port))
    request = (
        f"GET {path} HTTP/1.1\r\nHost: localhost:{site.port}\r\n"
        f"Origin: {site.origin}\r\nCookie: {site.cookies_of('ada')}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    raw.sendall(request.encode())
    assert raw.recv(12) == b"HTTP/1.1 101"
    return raw


def test_pings_of_somebody_who_reads_no_answers_do_not_make_memory_grow(house: House) -> None:
    """20 MB of them, from anybody."""
    site = house.site
    with slow_reader(site, "/ws/status/") as reader:
        before = memory_of(site)
        pings = (b"\x89\xfd\0\0\0\0" + b"x" * 125) * 1000
        reader.settimeout(1)
        # The site may read no more, which is as well.
        with suppress(OSError):
            for _ in range(160):
                reader.sendall(pings)
        time.sleep(1)
        assert memory_of(site) - before < 5


def memory_of(site: Site) -> float:
    """Return the resident memory of uvicorn's workers, in MiB."""
    return (
        sum(
            worker.memory_info().rss
            for worker in site.workers()
            if "gunicorn" not in " ".join(worker.cmdline())
        )
        / 2**20
    )


def test_site_stops_at_once_with_sockets_open(house: House) -> None:
    with house.site.socket() as socket:
        assert house.site.stop(seconds=15) in (0, 128 + signal.SIGTERM)
        assert close_code(socket) == 1012


PATIENT = """\
import sys

from config import uvicorn_conf

uvicorn_conf.UNREAD_TIMEOUT = int(sys.argv[1])
uvicorn_conf.OPTIONS["app"] = "probe_flood:application"

if __name__ == "__main__":
    uvicorn_conf.main()
"""
FLOOD = """\
async def application(scope, receive, send):
    await receive()
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "websocket.accept"})
    while True:
        await send({"type": "websocket.send", "text": "x" * 10_000})
"""


@pytest.mark.parametrize(("patience", "is_given_up"), [("3000", True), ("600000", False)])
def test_peer_that_reads_nothing_is_given_up(
    prepared: Prepare, tmp_path: Path, patience: str, is_given_up: bool
) -> None:
    """By the kernel: uvicorn would wait for it for ever. With more patience it is still there."""
    project, variables = prepared(WAYS[0][0])
    (probes_of(project) / "probe_flood.py").write_text(FLOOD)
    (probes_of(project) / "probe_patience.py").write_text(PATIENT)
    command = ["python", "-m", "probe_patience", patience]
    with running(project, command, tmp_path / "log", **variables) as site:
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", site.port))
            reader.sendall(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            mine = reader.getsockname()[1]
            time.sleep(12)
            held = any(
                connection.raddr and connection.raddr.port == mine
                for worker in psutil.Process(site.process.pid).children(recursive=True)
                for connection in worker.net_connections("tcp")
            )
        assert held != is_given_up
