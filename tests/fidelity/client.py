"""What visitors do: they ask, wait for as long as they like, read streams, and go away."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

# Seconds. More than any line in a server may take; who has no answer then has none.
PATIENCE = 90.0
HEAD = "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n"


@dataclass(frozen=True)
class Reply:
    """An answer: its status, 0 for none, its body, and when it was there."""

    status: int
    body: str = ""
    at: float = field(default_factory=time.monotonic)


async def get(port: int, path: str, patience: float = PATIENCE) -> Reply:
    """Ask on a connection of its own, and go away after `patience` seconds."""
    writer = None
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEAD.format(path=path, connection="close").encode())
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            return Reply(int(head.split(b" ")[1]) if head else 0, body.decode())
    except (OSError, TimeoutError):
        return Reply(0)
    finally:
        if writer:
            writer.close()


async def get_all(port: int, paths: Iterable[str], patience: float = PATIENCE) -> list[Reply]:
    """Ask for all paths at once."""
    return await asyncio.gather(*(get(port, path, patience) for path in paths))


def told(replies: Iterable[Reply]) -> str:
    """Say how often there was which status, for example 32 of 200 and 68 of 503."""
    statuses = Counter(reply.status for reply in replies)
    return ", ".join(
        f"{count} × {status}" if status else f"{count} without an answer"
        for status, count in sorted(statuses.items())
    )


def count(replies: Iterable[Reply], status: int = 200, body: str = "") -> int:
    return sum(reply.status == status and body in reply.body for reply in replies)


class Stream:
    """A response that is read as it comes."""

    text = ""
    ended = False

    async def read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                self.text += piece.decode()
        self.ended = True

    @property
    def status(self) -> int:
        return int(self.text.split(" ", 2)[1]) if self.text else 0


@asynccontextmanager
async def streams(port: int, path: str, number: int) -> AsyncIterator[list[Stream]]:
    """Open streams at once; they are read meanwhile, and left at the end."""
    opened: list[Stream] = []
    readings: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(number):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEAD.format(path=path, connection="close").encode())
            opened.append(Stream())
            writers.append(writer)
            readings.append(asyncio.create_task(opened[-1].read(reader)))
        yield opened
    finally:
        for reading in readings:
            reading.cancel()
        for writer in writers:
            writer.close()


async def rate(port: int, path: str, connections: int, warm_up: float, seconds: float) -> float:
    """Return how many answers of 200 come in a second on connections that are kept."""
    begin = time.monotonic() + warm_up
    end = begin + seconds
    answered = 0

    async def visit() -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while time.monotonic() < end:
                writer.write(HEAD.format(path=path, connection="keep-alive").encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(None, 1)[0])
                await reader.readexactly(length)
                if head.startswith(b"HTTP/1.1 200") and begin <= time.monotonic() < end:
                    answered += 1
        finally:
            writer.close()

    visits = [asyncio.create_task(visit()) for _ in range(connections)]
    await asyncio.wait(visits, timeout=warm_up + seconds + 10)
    for each in visits:
        each.cancel()
        if each.done() and not each.cancelled() and (error := each.exception()):
            raise error
    return answered / seconds


async def another_site(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer after `?seconds=`: the slow site of somebody else, which views ask."""
    try:
        line = await reader.readline()
        await asyncio.sleep(float(line.partition(b"seconds=")[2].split()[0]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
    except (OSError, IndexError, ValueError):
        pass
    finally:
        writer.close()
