"""Holds many WebSockets and does one of these with them; run by load.py as a process.

    python sockets.py PORT PATH COUNT WORK SECONDS

WORK is `hold` (say nothing), `talk` (each says something every two seconds), `echo` (each
says something as soon as it has its answer), `broadcast` (one says something, all hear it,
again and again) or `chat` (the same in the language of the emitted chat). It writes a line of
JSON when the sockets are open and one with what it measured, and closes them when its
standard input ends.

The frames are made here, not by a library, so that a thousand clients cost little beside the
server on the same machine.
"""

import asyncio
import base64
import json
import os
import statistics
import sys
import time
from collections.abc import Callable


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a frame of up to 125 bytes, masked with zeroes, which change nothing."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


class Client(asyncio.Protocol):
    """One socket. Frames from the server have up to 64 KiB."""

    transport: asyncio.Transport
    # What a frame has in it to be counted: all, or messages of the chat.
    wanted = b""

    def __init__(self, port: int, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self.request = (
            f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nOrigin: http://localhost:{port}\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        self.buffer = b""
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard: Callable[[Client], None] = lambda client: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.open.done():
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head[:20]:
                self.open.set_exception(ConnectionError(head[:80].decode()))
                return
            self.buffer = rest
            self.open.set_result(None)
        while len(self.buffer) >= 4 or (len(self.buffer) >= 2 and self.buffer[1] < 2):
            start, size = 2, self.buffer[1]
            if size == 126:
                start, size = 4, int.from_bytes(self.buffer[2:4])
            if len(self.buffer) < start + size:
                return
            opcode, payload = self.buffer[0] & 0x0F, self.buffer[start : start + size]
            self.buffer = self.buffer[start + size :]
            if opcode == 0x1 and self.wanted in payload:
                self.heard(self)
            elif opcode == 0x9:
                self.transport.write(frame(0xA, payload))

    def say(self) -> None:
        text = b"x" * 32
        if self.wanted:
            key = os.urandom(8).hex()
            text = json.dumps({"type": "message", "key": key, "text": "x" * 32}).encode()
        self.transport.write(frame(0x1, text))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(error or ConnectionError("closed in the handshake"))


async def echo(clients: list[Client], seconds: float) -> dict[str, float]:
    count = 0

    def heard(client: Client) -> None:
        nonlocal count
        count += 1
        client.say()

    for client in clients:
        client.heard = heard
        client.say()
    await asyncio.sleep(min(1, seconds / 2))
    before, started = count, time.perf_counter()
    await asyncio.sleep(seconds)
    per_second = (count - before) / (time.perf_counter() - started)
    for client in clients:
        client.heard = lambda client: None
    return {"per_second": per_second}


async def broadcast(clients: list[Client], seconds: float) -> dict[str, float]:
    times: list[float] = []
    missing = 0
    ends = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < ends:
        heard = 0
        everybody = asyncio.Event()

        def hear(client: Client) -> None:
            nonlocal heard
            heard += 1
            if heard == len(clients):
                everybody.set()  # noqa: B023 (each message is waited for)

        for client in clients:
            client.heard = hear
        started = time.perf_counter()
        clients[len(times) % len(clients)].say()
        try:
            await asyncio.wait_for(everybody.wait(), 5)
        except TimeoutError:
            missing += len(clients) - heard
        times.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(0.05)
    # The first one opens connections to Redis.
    times = times[1:]
    return {
        "median": statistics.median(times),
        "least": min(times),
        "most": max(times),
        "missing": missing,
    }


async def talk(clients: list[Client]) -> None:
    while True:
        for client in clients:
            client.say()
            await asyncio.sleep(2 / len(clients))


async def main() -> None:
    port, path, count, work, seconds = sys.argv[1:]
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(50)

    async def opened() -> Client:
        async with gate:
            _, client = await loop.create_connection(
                lambda: Client(int(port), path), "127.0.0.1", int(port)
            )
            await client.open
            return client

    async with asyncio.timeout(60):
        clients = await asyncio.gather(*(opened() for _ in range(int(count))))
    print(json.dumps({"open": len(clients)}), flush=True)
    talking = loop.create_task(talk(clients)) if work == "talk" else None
    if work in ("echo", "broadcast", "chat"):
        if work == "chat":
            Client.wanted = b'"type": "message"'
        do = {"echo": echo, "broadcast": broadcast, "chat": broadcast}[work]
        print(json.dumps(await do(clients, float(seconds))), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    if talking:
        talking.cancel()
    for client in clients:
        client.transport.write(frame(0x8, b"\x03\xe8"))
    await asyncio.sleep(0.3)
    for client in clients:
        client.transport.close()


if __name__ == "__main__":
    asyncio.run(main())
