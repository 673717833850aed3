"""Clients that say nothing, or too slowly, and very many of them; pages are answered all along."""

import asyncio
import base64
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.combinations import name_of
from tests.conftest import Prepare
from tests.faults.scene import PAIRS, PRODUCTS, Scene, seen_in, small_site, watched_site
from tests.faults.table import Note, named
from tests.services import wait_until
from tests.site import Site

pytestmark = pytest.mark.faults

# Behind a proxy as it is emitted, and without one.
ASGI_AND_BOTH = PRODUCTS[1:]
CHANNELS = [pair for pair in PAIRS if pair["realtime"] == "channels"]
WITH_CHANNELS = pytest.mark.parametrize("stage", CHANNELS, ids=name_of, indirect=True)
HEAD = "Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n"

type Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def code_of(opened: Opened) -> int:
    """Return the code with which a WebSocket is closed, 0 for none. Answers pings until then."""
    reader, writer = opened
    with suppress(OSError, asyncio.IncompleteReadError):
        while True:
            kind, length = await reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await reader.readexactly(2))
            data = await reader.readexactly(length)
            if kind == 0x88:
                return int.from_bytes(data[:2])
            if kind == 0x89:
                writer.write(bytes([0x8A, 0x80 + length, 0, 0, 0, 0]) + data)
    return 0


async def open_all(port: int, count: int, first: bytes) -> list[Opened]:
    """Open so many connections, fifty at a time, and send the same on each."""
    opened: list[Opened] = []
    for begun in range(0, count, 50):
        some = await asyncio.gather(
            *(
                asyncio.open_connection("127.0.0.1", port, limit=4096)
                for _ in range(min(50, count - begun))
            )
        )
        for _, writer in some:
            writer.write(first)
        opened += some
    return opened


def with_clients(
    scene: Scene, count: int, first: bytes, meanwhile: Callable[[list[Opened]], Awaitable[None]]
) -> None:
    """Open connections in a loop of their own, and do something with them meanwhile."""

    async def run() -> None:
        opened = await open_all(scene.port, count, first)
        try:
            await meanwhile(opened)
        finally:
            for _, writer in opened:
                writer.transport.abort()

    asyncio.run(run())


async def for_some_seconds(opened: list[Opened]) -> None:
    await asyncio.sleep(6)


async def a_byte_a_second(opened: list[Opened]) -> None:
    for _ in range(6):
        for _, writer in opened:
            with suppress(OSError):
                writer.write(b"x")
        await asyncio.sleep(1)


KINDS = ["say nothing", "slow heads", "slow bodies"]


@pytest.mark.parametrize(
    "stage",
    [pair for kind in KINDS for pair in seen_in(ASGI_AND_BOTH, f"1,000 clients: {kind}")],
    indirect=True,
)
def test_thousand_clients(scene: Scene, note: Note) -> None:
    """Through the proxy for WSGI, which holds them off; uvicorn has no thread for each."""
    host = HEAD.format(port=scene.port)
    first, meanwhile = {
        "say nothing": ("", for_some_seconds),
        "slow heads": (f"GET / HTTP/1.1\r\n{host}X-Slow: ", a_byte_a_second),
        "slow bodies": (
            f"POST /probe/upload/ HTTP/1.1\r\n{host}Content-Length: 1000\r\n\r\n", a_byte_a_second,
        ),
    }[scene.about.partition(": ")[2]]  # fmt: skip

    async def when_all_are_there(opened: list[Opened]) -> None:
        since = time.monotonic()
        await meanwhile(opened)
        times.extend([since, time.monotonic()])

    times: list[float] = []
    with scene.fault(120) as fault:
        with_clients(scene, 1000, first.encode(), when_all_are_there)
    assert fault.all_are_answered, fault.outcomes
    # The Caddy of `just serve` passes a body on as it comes, and so slow ones hold threads.
    if scene.project.is_(interface="asgi") or "bodies" not in fault.name:
        fault.keeps_its_pace(*times)
    else:
        fault.remark = f"a request took up to {fault.longest:.0f} s"
    note(fault)


@contextmanager
def slow_readers(port: int, count: int, request: bytes) -> Iterator[set[int]]:
    """Open so many connections, send the same on each, and read nothing; return their ports.

    As far away as they may be: with small segments and a small window. On loopback, the kernel
    would take 2 MB of an answer at once.
    """
    readers: list[socket.socket] = []
    try:
        for _ in range(count):
            reader = socket.socket()
            readers.append(reader)
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            reader.connect(("127.0.0.1", port))
            reader.sendall(request)
        yield {reader.getsockname()[1] for reader in readers}
    finally:
        for reader in readers:
            reader.close()


def held(site: Site, ports: set[int]) -> int:
    """Return how many of the connections from these ports the site's processes still have."""
    found = set()
    for process in site.note_family():
        with suppress(psutil.NoSuchProcess):
            found |= {one.raddr.port for one in process.net_connections("tcp") if one.raddr}
    return len(found & ports)


def memory(site: Site) -> int:
    """Return the bytes of memory that the site's processes have."""
    total = 0
    for process in site.note_family():
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def largest_script(scene: Scene) -> tuple[str, int]:
    """Return the path and the size of the largest script that the site serves."""
    root = scene.project.path / "staticfiles"
    size, path = max((file.stat().st_size, file) for file in root.rglob("*.js"))
    return f"/static/{path.relative_to(root)}", size


@pytest.mark.parametrize("stage", ASGI_AND_BOTH, ids=name_of, indirect=True)
@named("1,000 clients: ask for 6 MB each and read nothing")
def test_thousand_slow_readers(scene: Scene, note: Note) -> None:
    """Of each, little is in memory; pages are answered."""
    path, size = largest_script(scene)
    times = 6_000_000 // size + 1
    request = f"GET {path} HTTP/1.1\r\n{HEAD.format(port=scene.port)}\r\n".encode() * times
    with scene.fault(120) as fault:
        before = memory(scene.site)
        with slow_readers(scene.port, 1000, request) as ports:
            # First they all get as much as they take.
            time.sleep(4)
            since = time.monotonic()
            time.sleep(6)
            until, there = time.monotonic(), held(scene.site, ports)
            each = (memory(scene.site) - before) / len(ports)
    assert there == 1000, "they are still there, so what they asked for waits"
    assert each < 256 * 1024, "of 6 MB"
    assert fault.all_are_answered, fault.outcomes
    fault.remark = f"{each / 1024:.0f} KiB of memory for each"
    fault.keeps_its_pace(since, until)
    note(fault)


@pytest.mark.parametrize(("start", "count"), [("gunicorn", 6), ("uvicorn", 300)])
@named("clients that read nothing of a page of 5 MB; they are given up after 3 s", lines=60)
def test_client_that_reads_nothing_is_given_up(
    start: str, count: int, prepared: Prepare, tmp_path: Path, note: Note
) -> None:
    """By the kernel. gunicorn has a thread for each, and here three: others wait for so long.

    With their own limits that takes 30 and 60 seconds."""
    command = ["python", "-m", "hurried"] if start == "uvicorn" else None
    request = b"GET /fault/large/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        small_site(start, prepared, tmp_path, command, FAULTS_READ_TIMEOUT="3") as site,
        watched_site(site) as fault,
        slow_readers(site.port, count, request) as ports,
    ):
        wait_until(lambda: held(site, ports) > 2, "they are served")
        time.sleep(1)
        assert held(site, ports) > 2
        wait_until(lambda: not held(site, ports), "all of them are given up", 40, 0.3)
    assert fault.all_are_answered, fault.outcomes
    note(fault)


def handshake(scene: Scene, path: str, logged_in: bool = True) -> bytes:
    """Of somebody who is logged in: of others there are a few from each address only."""
    key = base64.b64encode(os.urandom(16)).decode()
    cookie = f"Cookie: {next(iter(scene.cookies.values()))}\r\n" if logged_in else ""
    return (
        f"GET {path} HTTP/1.1\r\n{HEAD.format(port=scene.port)}{cookie}"
        f"Upgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


@WITH_CHANNELS
@named("2,000 sockets open")
def test_two_thousand_sockets(scene: Scene, note: Note) -> None:
    times: list[float] = []

    async def stay(opened: list[Opened]) -> None:
        for reader, _ in opened:
            async with asyncio.timeout(60):
                assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        since = time.monotonic()
        await asyncio.sleep(6)
        times.extend([since, time.monotonic()])

    with scene.fault(120) as fault:
        with_clients(scene, 2000, handshake(scene, "/ws/status/"), stay)
    assert fault.all_are_answered, fault.outcomes
    fault.keeps_its_pace(*times)
    note(fault)


@WITH_CHANNELS
@named("400 sockets of visitors who are not logged in, from one address")
def test_sockets_of_nobody_are_bounded(scene: Scene, note: Note) -> None:
    """In each process, by address. What is above that is refused, with its line in the log."""
    statuses: Counter[str] = Counter()
    limit = 50 * len(scene.workers_of("config.uvicorn_conf"))

    async def count(opened: list[Opened]) -> None:
        for reader, _ in opened:
            async with asyncio.timeout(60):
                statuses[(await reader.readline()).decode().split(" ")[1]] += 1
        await asyncio.sleep(3)

    with scene.fault(120) as fault:
        with_clients(scene, 400, handshake(scene, "/ws/status/", logged_in=False), count)
    assert set(statuses) == {"101", "429"}
    assert 50 <= statuses["101"] <= limit
    assert fault.all_are_answered, fault.outcomes
    fault.remark = f"of the sockets {statuses['101']} are open, {statuses['429']} × 429"
    note(fault)


@WITH_CHANNELS
@named("SIGHUP with 1,000 sockets open, which come back")
def test_deploy_with_a_thousand_sockets(scene: Scene, note: Note) -> None:
    """Each is closed with 1012, and let in when it comes back."""
    workers = {worker.pid for worker in scene.site.workers()}
    first = handshake(scene, "/ws/status/")

    async def deploy(opened: list[Opened]) -> None:
        for reader, _ in opened:
            async with asyncio.timeout(60):
                assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        scene.signal_masters(signal.SIGHUP)
        async with asyncio.timeout(120):
            codes = await asyncio.gather(*map(code_of, opened))
        assert set(codes) == {1012}, set(codes)
        # As a browser, they come again if a process that stops says 503.
        out = len(opened)
        while out:
            again = await open_all(scene.port, out, first)
            out = 0
            for reader, _ in again:
                async with asyncio.timeout(60):
                    head = await reader.readuntil(b"\r\n\r\n")
                assert b" 101 " in head or b" 503 " in head, head
                out += b" 503 " in head
            opened += again

    with scene.fault(120) as fault:
        began = time.monotonic()
        with_clients(scene, 1000, first, deploy)
        wait_until(lambda: scene.workers_are_new(workers), "all workers are replaced", 90, 0.3)
        fault.remark = (
            f"1,000 of 1,000 closed with 1012 and back in {time.monotonic() - began:.0f} s"
        )
    assert fault.all_are_answered, fault.outcomes
    note(fault)
