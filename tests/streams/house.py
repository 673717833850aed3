"""A house with streams of events."""

import json
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from queue import Queue
from typing import Any

import httpx

from tests.conftest import Prepare
from tests.house import House
from tests.project import Project
from tests.services import wait_until
from tests.site import Site, cmdline

# What stands in the log of a site whose Redis was away and whose workers were killed.
EXPECTED = r"Redis is away|died|upstream|reverse_proxy|aborting|Not Implemented"
# What notifications/ has, in seconds and streams.
PAUSE, PAUSE_WITH_REDIS, HEARTBEAT, MAX_STREAMS = 2, 15, 15, 10
TEXT = "Line one\nline two — 👋 <b>"


class Stream:
    """A stream of events, read in a thread as a browser reads it."""

    def __init__(self, site: Site, cookies: str, last: str = "") -> None:
        headers = {"Cookie": cookies} | ({"Last-Event-ID": last} if last else {})
        # No browser waits for longer than 40 seconds for a word.
        self.client = httpx.Client(timeout=40, verify=False)
        request = self.client.build_request("GET", f"{site.origin}/events/", headers=headers)
        self.response = self.client.send(request, stream=True)
        self.status = self.response.status_code
        self.socket = self.response.extensions["network_stream"].get_extra_info("socket")
        # The id that a browser sends when it comes back.
        self.last = last
        # Whether it came to its end, and was not cut off.
        self.complete = False
        self.blocks: Queue[dict[str, str] | None] = Queue()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        block: dict[str, str] = {}
        with suppress(httpx.HTTPError), closing(self.response):
            for line in self.response.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    block[name] = value
                elif block:
                    self.blocks.put(block)
                    block = {}
            self.complete = True
        self.blocks.put(None)

    def next(self, event: str, seconds: float = 5) -> dict[str, str] | None:
        """Return the next block of an event, None if the stream ends before; raise Empty if
        there is none in time."""
        deadline = time.monotonic() + seconds
        while block := self.blocks.get(timeout=max(0, deadline - time.monotonic())):
            self.last = block.get("id", self.last)
            if block.get("event", "") == event:
                return block
        return None

    def texts(self, count: int = 1, seconds: float = 5) -> list[str]:
        """Return the next notifications."""
        found = []
        for _ in range(count):
            block = self.next("notification", seconds)
            assert block, "the stream has ended"
            data = json.loads(block["data"])
            assert block["id"] == str(data["id"])
            found.append(data["text"])
        return found

    def end(self, seconds: float) -> bool:
        """Wait for the end and return whether it was one."""
        while self.next("notification", seconds):
            pass
        return self.complete

    def leave(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.reader.join(5)
        self.client.close()


class StreamHouse(House):
    """A house, and the streams that are open to it."""

    def __init__(
        self, project: Project, start: str, folder: Path, variables: dict[str, str]
    ) -> None:
        super().__init__(project, start, folder, variables)
        self.streams = ExitStack()

    def open(self, user: str = "ada", **options: Any) -> Stream:
        """Open a stream, which is left after the test."""
        stream = Stream(self.site, self.site.cookies_of(user), **options)
        self.streams.callback(stream.leave)
        return stream

    def open_in_both_processes(self) -> list[Stream]:
        """Open streams until both processes listen for hints: chance has it which of them
        takes a connection."""
        wait_until(lambda: self.subscribers() == 0, "nobody listens")
        streams: list[Stream] = []

        def both_listen() -> bool:
            stream = self.open()
            if stream.status == 429:
                # One process has all that it takes from one person, and a proxy keeps the
                # connection on which it said so: this would be asked again and again.
                while streams:
                    streams.pop().leave()
                return False
            assert stream.status == 200
            streams.append(stream)
            return self.subscribers() == 2

        wait_until(both_listen, "both processes listen", 60)
        return streams

    def resume(self, stream: Stream, seconds: float = 30) -> Stream:
        """Come back as a browser does: again and again, with the id of the last event."""
        found: list[Stream] = []

        def came_back() -> bool:
            with suppress(httpx.HTTPError):
                found.append(self.open(last=stream.last))
            return bool(found) and found[-1].status == 200

        wait_until(came_back, "the browser is back", seconds, pause=0.3)
        return found[-1]

    def texts(self, stream: Stream, count: int) -> list[str]:
        """Return the next notifications of a browser that comes back: after this stream, which
        has ended, and after each that ends again while the server restarts."""
        found: list[str] = []
        stream = self.resume(stream)
        while len(found) < count:
            block = stream.next("notification", seconds=10)
            if block:
                found.append(json.loads(block["data"])["text"])
            else:
                stream = self.resume(stream)
        return found

    def script(self, code: str) -> subprocess.Popen[str]:
        """Start a process that runs `code` with ada, bob and notify()."""
        code = (
            f"from {self.project.slug}.notifications.sending import notify\n"
            "from django.contrib.auth import get_user_model as model\n"
            "from django.db import transaction\n"
            "ada, bob = (model().objects.get(username=name) for name in ('ada', 'bob'))\n"
        ) + code
        return subprocess.Popen(
            ["python", "manage.py", "shell", "-v", "0", "-c", code],
            cwd=self.project.path,
            env=self.project.environment(**self.variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, *texts: str, user: str = "ada") -> None:
        """Send notifications in another process, each in a transaction."""
        sender = self.script(f"for text in {texts!r}: notify({user}, text)")
        assert sender.communicate(timeout=30)
        assert sender.returncode == 0

    def subscribers(self) -> int:
        """Return how many connections listen for hints."""

        def pubsub(*words: str) -> list[str]:
            return subprocess.run(
                ["redis-cli", "-p", str(self.redis_port), "pubsub", *words],
                stdout=subprocess.PIPE,
                text=True,
            ).stdout.split()

        names = pubsub("channels", f"{self.project.slug}-*.live")
        return sum(int(pubsub("numsub", name)[-1]) for name in names)

    def asgi_workers(self) -> list[int]:
        return [
            worker.pid
            for worker in self.site.workers()
            if any("spawn_main" in word for word in cmdline(worker))
        ]


def alone(prepared: Prepare, folder: Path) -> StreamHouse:
    """Return a house of one process, for what is the same in all combinations."""
    answers = {"interface": "asgi", "realtime": "sse", "database": "sqlite"}
    project, variables = prepared(answers)
    house = StreamHouse(project, "uvicorn", folder, variables)
    house.variables |= {"REDIS_URL": "", "WEB_CONCURRENCY": "1"}
    return house
