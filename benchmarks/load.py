"""Puts load on a server, always from processes of its own, which end with their block."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.impatient import PATIENCE
from benchmarks.limits import NoAnswerError

HERE = Path(__file__).resolve().parent


@contextmanager
def process(*words: object) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the block, at most until the block ends."""
    with subprocess.Popen(
        [str(word) for word in words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as started:  # fmt: skip
        try:
            yield started
        finally:
            started.kill()


@dataclass(frozen=True)
class Load:
    """What came of some seconds of load. Latencies in milliseconds."""

    requests: int
    per_second: float
    errors: int
    p50: float
    p99: float


class Wrk:
    """A wrk that runs."""

    def __init__(self, running: subprocess.Popen[str], seconds: int) -> None:
        self.running = running
        self.seconds = seconds

    def load(self, meanwhile: Callable[[], object] | None = None) -> Load:
        """Return what came of it; until then, call `meanwhile` now and then."""
        while meanwhile and self.running.poll() is None:
            meanwhile()
            time.sleep(0.2)
        try:
            told, _ = self.running.communicate(timeout=self.seconds + PATIENCE)
        except subprocess.TimeoutExpired:
            raise NoAnswerError(f"wrk did not end within {self.seconds + PATIENCE} s") from None
        assert self.running.returncode == 0, f"wrk failed: {told.strip()}"
        counted = json.loads(told.splitlines()[-1])
        errors = sum(counted[kind] for kind in ("connect", "read", "write", "status", "timeout"))
        return Load(
            requests=counted["requests"],
            per_second=counted["requests"] / (counted["duration"] / 1e6),
            errors=errors,
            p50=counted["p50"] / 1000,
            p99=counted["p99"] / 1000,
        )


@contextmanager
def wrk(url: str, connections: int, seconds: int, threads: int = 2) -> Iterator[Wrk]:
    """Ask for `url` again and again on so many connections for so many seconds."""
    words = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--latency"]
    with process(*words, "--timeout", f"{PATIENCE}s", "-s", HERE / "wrk.lua", url) as running:
        yield Wrk(running, seconds)


def warm_up(url: str, connections: int, seconds: float) -> None:
    """Put load on for part of a second, which wrk alone cannot do."""
    words = ["wrk", "-t2", f"-c{connections}", "-d9s", url]
    with process(*words) as running, suppress(subprocess.TimeoutExpired):
        running.wait(seconds)


def impatient(
    port: int, path: str, requests: int, seconds: int, meanwhile: Callable[[], object]
) -> tuple[int, int]:
    """Send requests and give half of them up, see impatient.py; return how many, and errors."""
    words = [sys.executable, HERE / "impatient.py", port, path, requests, seconds]
    with process(*words) as running:
        while running.poll() is None:
            meanwhile()
            time.sleep(0.05)
        told, _ = running.communicate()
    assert running.returncode == 0, "the process of the impatient ended early"
    counted = json.loads(told)
    return counted["sent"], counted["errors"]


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
    with process(*words) as running:
        held = Sockets(running)
        held.told()
        yield held
        # Its end of file is the sign to close them.
        assert running.stdin
        with suppress(BrokenPipeError):
            running.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            running.wait(timeout=15)
