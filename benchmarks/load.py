"""Puts load on a server: wrk for whole answers, an own client for those that go away."""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Seconds that a client waits for an answer before it counts as an error.
PATIENCE = 20


@dataclass(frozen=True)
class Load:
    """What came of some seconds of load. Latencies in milliseconds."""

    requests: int
    per_second: float
    errors: int
    p50: float
    p99: float


def wrk(url: str, connections: int, seconds: int, threads: int = 2) -> Load:
    """Ask for `url` again and again on so many connections for so many seconds."""
    done = subprocess.run(
        ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--latency",
         "--timeout", f"{PATIENCE}s", "-s", HERE / "wrk.lua", url],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"wrk failed: {done.stdout.strip()}"
    counted = json.loads(done.stdout.splitlines()[-1])
    errors = sum(counted[kind] for kind in ("connect", "read", "write", "status", "timeout"))
    return Load(
        requests=counted["requests"],
        per_second=counted["requests"] / (counted["duration"] / 1e6),
        errors=errors,
        p50=counted["p50"] / 1000,
        p99=counted["p99"] / 1000,
    )


def warm_up(url: str, connections: int, seconds: float) -> None:
    """Put load on for part of a second, which wrk alone cannot do."""
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(
            ["wrk", "-t2", f"-c{connections}", "-d9s", url],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=seconds,
        )  # fmt: skip


def impatient(port: int, path: str, requests: int, connections: int = 64) -> int:
    """Send requests, of which every second is given up within 5 ms; return the errors.

    An error is an answer other than 200 to a client that waited for it.
    """
    chance = random.Random(1)
    text = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()

    async def one(number: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(text)
            if number % 2:
                await asyncio.sleep(chance.random() * 0.005)
                writer.transport.abort()
                return 0
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
            return int(b" 200 " not in answer[:15])
        except (OSError, TimeoutError):
            return 1
        finally:
            writer.close()

    async def client(numbers: Iterator[int]) -> int:
        return sum([await one(number) for number in numbers])

    async def everybody() -> int:
        numbers = iter(range(requests))
        return sum(await asyncio.gather(*(client(numbers) for _ in range(connections))))

    return asyncio.run(everybody())


class Sockets:
    """Many WebSockets, held by a process of their own; see sockets.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def told(self) -> dict[str, float]:
        """Return the next line that the process writes, once it does."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the process that holds the sockets ended early; its error stands above"
        return json.loads(line)


@contextmanager
def sockets(port: int, path: str, count: int, work: str, seconds: int) -> Iterator[Sockets]:
    """Hold `count` open sockets while the block runs; they are open when it begins."""
    words = [sys.executable, HERE / "sockets.py", port, path, count, work, seconds]
    with subprocess.Popen(
        [str(word) for word in words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            held = Sockets(process)
            held.told()
            yield held
        finally:
            # Its end of file is the sign to close them.
            assert process.stdin
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
