"""Clients that say nothing, or too slowly, and very many of them; pages are answered all along."""

import asyncio
import base64
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from tests.combinations import name_of
from tests.faults.scene import PRODUCTS, Scene
from tests.faults.table import Note
from tests.services import wait_until

pytestmark = pytest.mark.faults

# Behind a proxy as it is emitted, and without one.
ASGI_AND_BOTH = pytest.mark.parametrize("stage", PRODUCTS[1:], ids=name_of, indirect=True)
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
    for _ in range(0, count, 50):
        some = await asyncio.gather(
            *(asyncio.open_connection("127.0.0.1", port, limit=4096) for _ in range(50))
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


@ASGI_AND_BOTH
@pytest.mark.parametrize("kind", ["say nothing", "slow heads", "slow bodies", "slow readers"])
def test_thousand_clients(scene: Scene, note: Note, kind: str) -> None:
    """Through the proxy for WSGI, which holds them off; uvicorn has no thread for each."""
    host = HEAD.format(port=scene.port)
    first, meanwhile = {
        "say nothing": ("", for_some_seconds),
        "slow heads": (f"GET / HTTP/1.1\r\n{host}X-Slow: ", a_byte_a_second),
        "slow bodies": (
            f"POST /probe/upload/ HTTP/1.1\r\n{host}Content-Length: 1000\r\n\r\n", a_byte_a_second,
        ),
        # Fifty answers each, of which nothing is read.
        "slow readers": (f"GET /accounts/login/ HTTP/1.1\r\n{host}\r\n" * 3, for_some_seconds),
    }[kind]  # fmt: skip
    with scene.fault(f"1,000 clients: {kind}", 120) as fault:
        with_clients(scene, 1000, first.encode(), meanwhile)
    assert fault.count("200", "201") == sum(fault.outcomes.values()), fault.outcomes
    note(fault)


def handshake(scene: Scene, path: str) -> bytes:
    """Of somebody who is logged in: of others there are a few from each address only."""
    key = base64.b64encode(os.urandom(16)).decode()
    cookie = next(iter(scene.cookies.values()))
    return (
        f"GET {path} HTTP/1.1\r\n{HEAD.format(port=scene.port)}Cookie: {cookie}\r\n"
        f"Upgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("stage", PRODUCTS[2:], ids=name_of, indirect=True)
def test_two_thousand_sockets(scene: Scene, note: Note) -> None:
    async def stay(opened: list[Opened]) -> None:
        for reader, _ in opened:
            async with asyncio.timeout(60):
                assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        await asyncio.sleep(5)

    with scene.fault("2,000 sockets open", 120) as fault:
        with_clients(scene, 2000, handshake(scene, "/ws/status/"), stay)
    assert fault.count("200", "201") == sum(fault.outcomes.values()), fault.outcomes
    note(fault)


@pytest.mark.parametrize("stage", PRODUCTS[2:], ids=name_of, indirect=True)
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
        again = await open_all(scene.port, 1000, first)
        for reader, _ in again:
            async with asyncio.timeout(60):
                assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        opened += again

    with scene.fault("SIGHUP with 1,000 sockets open, which come back", 120) as fault:
        began = time.monotonic()
        with_clients(scene, 1000, first, deploy)
        wait_until(lambda: scene.workers_are_new(workers), "all workers are replaced", 90, 0.3)
        fault.remark = (
            f"1,000 of 1,000 closed with 1012 and back in {time.monotonic() - began:.0f} s"
        )
    assert fault.lost == 0, fault.outcomes
    note(fault)
