"""Clients of a site, each of which counts what it got, while something goes wrong.

Visitors write by pages and read pages; readers have streams open; people talk in the chat
(tests/talk.py). A fault is between two calls: begin() and end().
"""

import asyncio
import itertools
import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.talk import Talk

# Seconds after which a visitor gives up: longer than any line in a server, and than a proxy.
PATIENCE = 75.0
REQUEST = "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: {connection}\r\n"


# The kernel resets a connection that is closed with something unread: nobody accepted it, or the
# request was not read. Of a request that was, the end of the connection is seen: "no answer".
UNREAD = "reset unread"


@dataclass
class Visit:
    """The time of a request, by time.monotonic()."""

    began: float
    ended: float = math.inf


class Connection:
    """A connection of HTTP to the site, which may be used again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, keep: bool = False, headers: str = "") -> int:
        """Return the status of an answer that came whole. Raises OSError."""
        if not self.writer:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self.reader
        connection = "keep-alive" if keep else "close"
        request = REQUEST.format(method=method, path=path, port=self.port, connection=connection)
        if method == "POST":
            headers += "Content-Length: 0\r\n"
        self.writer.write(f"{request}{headers}\r\n".encode())
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = head.partition("\r\ncontent-length:")[2].partition("\r\n")[0]
            if length:
                await self.reader.readexactly(int(length))
            elif "chunked" in head:
                while size := int(await self.reader.readline(), 16):
                    await self.reader.readexactly(size + 2)
                await self.reader.readline()
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("answer cut off" if error.partial else "no answer") from None
        if not keep or "\r\nconnection: close" in head:
            self.close()
        return int(head.split(" ")[1])

    def close(self) -> None:
        if self.writer:
            self.writer.close()
        self.reader = self.writer = None


class Visitor:
    """Writes again and again, on new connections, and reads a page on one that is kept."""

    def __init__(self, crowd: "Crowd", name: str, write: str) -> None:
        self.crowd, self.name, self.write = crowd, name, write
        # What was acknowledged, and what no server had read, as the kernel said.
        self.written: list[str] = []
        self.unread: list[str] = []
        # When the last write that was acknowledged had begun, and the last page that came.
        self.good_since = 0.0

    async def stay(self) -> None:
        kept = Connection(self.crowd.port)
        for number in itertools.count():
            while not self.crowd.busy:
                await asyncio.sleep(0.05)
            key = f"{self.name}-{number}"
            began = time.monotonic()
            outcome = await self.did(Connection(self.crowd.port), "POST", self.write.format(key))
            if outcome == "201":
                self.written.append(key)
                self.good_since = began
            elif outcome == UNREAD:
                self.unread.append(key)
            await asyncio.sleep(self.crowd.pause)
            await self.did(kept, "GET", "/accounts/login/", keep=True)
            await asyncio.sleep(self.crowd.pause)

    async def did(self, connection: Connection, method: str, path: str, keep: bool = False) -> str:
        """Ask, note what came of it and when, and return it."""
        again = bool(connection.writer)
        status, outcome = 0, "no answer in time"
        visit = Visit(time.monotonic())
        self.crowd.visits.append(visit)
        try:
            async with asyncio.timeout(PATIENCE):
                try:
                    status = await connection.ask(method, path, keep)
                except OSError:
                    # As every browser does on a connection that its server closed meanwhile.
                    if not again:
                        raise
                    connection.close()
                    status = await connection.ask(method, path, keep)
            outcome = str(status)
        except ConnectionRefusedError:
            outcome = "refused"
        except OSError as error:
            outcome = str(error) if "answer" in str(error) else UNREAD
        except TimeoutError:
            pass
        visit.ended = time.monotonic()
        if not status:
            connection.close()
        self.crowd.outcomes[outcome] += 1
        if outcome == "refused":
            await asyncio.sleep(0.2)
        return outcome


class Reader:
    """A page with a stream open, which comes back with the id of the last event."""

    def __init__(self, crowd: "Crowd", name: str, cookie: str) -> None:
        self.crowd, self.name, self.cookie = crowd, name, cookie
        self.heard: list[str] = []
        self.ids: list[int] = []
        self.connections = 0
        self.good_since = 0.0

    async def stay(self) -> None:
        while True:
            with suppress(OSError, TimeoutError):
                await self.read()
            await asyncio.sleep(0.3)

    async def read(self) -> None:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.crowd.port)
        try:
            # What its page had when it was opened, and what it heard last.
            last = f"Last-Event-ID: {self.ids[-1]}\r\n" if self.ids else ""
            request = REQUEST.format(
                method="GET", path="/events/?after=0", port=self.crowd.port, connection="close"
            )
            writer.write(f"{request}Cookie: {self.cookie}\r\n{last}\r\n".encode())
            while True:
                # A page waits for 40 seconds for a word.
                async with asyncio.timeout(40):
                    line = (await reader.readline()).decode()
                if not line:
                    return
                if line.startswith("retry:"):
                    self.connections += 1
                    self.good_since = time.monotonic()
                elif line.startswith("data: ") and '"id"' in line:
                    event = json.loads(line[6:])
                    self.ids.append(event["id"])
                    self.heard.append(event["text"])
        finally:
            writer.close()


class Crowd:
    """All clients of a site, in an event loop of their own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.talk = Talk()
        self.busy = False
        # Seconds between two requests of a visitor.
        self.pause = 0.25
        self.outcomes: Counter[str] = Counter()
        self.visits: list[Visit] = []
        self.ready: Counter[str] = Counter()
        self.visitors: list[Visitor] = []
        self.readers: list[Reader] = []

    def come(
        self,
        visitors: list[tuple[str, str]],
        readers: list[tuple[str, str]],
        people: list[tuple[str, str, dict[str, str], str]],
    ) -> None:
        """Let everybody come: visitors with the path that they write to, in which `{}` is a
        key, readers with their cookies, and people as Talk has them."""
        if people:
            self.talk.begin(*people)
            self.talk.talking = False
        self.visitors = [Visitor(self, *facts) for facts in visitors]
        self.readers = [Reader(self, *facts) for facts in readers]

        async def enter() -> None:
            for one in (*self.visitors, *self.readers):
                self.talk.tasks.append(asyncio.create_task(one.stay()))
            self.talk.tasks.append(asyncio.create_task(self.probe()))

        self.talk.do(enter)

    async def probe(self) -> None:
        """Ask whether the site is ready, twice a second."""
        while True:
            await asyncio.sleep(0.5)
            connection = Connection(self.port)
            outcome = "none"
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(5):
                    outcome = str(await connection.ask("GET", "/health/ready"))
            connection.close()
            self.ready[outcome] += 1

    def start(self) -> None:
        """Have everybody busy, and count from now."""
        self.outcomes.clear()
        self.visits = [visit for visit in self.visits if visit.ended == math.inf]
        self.ready.clear()
        self.busy = self.talk.talking = True

    def stop(self) -> None:
        self.busy = self.talk.talking = False

    def is_asking(self) -> bool:
        return any(visit.ended == math.inf for visit in list(self.visits))

    def under_way(self, since: float, until: float) -> int:
        """Return how many requests were not answered yet between two moments."""
        return sum(visit.began <= until and visit.ended >= since for visit in list(self.visits))

    def pace(self, since: float, until: float) -> tuple[float, float]:
        """Return the median of the seconds that a request took which began between two moments,
        and the 95th percentile."""
        now = time.monotonic()
        seconds = [
            min(visit.ended, now) - visit.began
            for visit in list(self.visits)
            if since <= visit.began < until
        ]
        assert len(seconds) > 50, "too few requests to say how long they take"
        return statistics.median(seconds), statistics.quantiles(seconds, n=20)[-1]

    def is_well_since(self, moment: float) -> bool:
        """Return whether each client had something done that it began after `moment`."""
        return (
            all(visitor.good_since > moment for visitor in self.visitors)
            and all(person.stored_at > moment for person in self.talk.people)
            and all(self.is_live(reader, moment) for reader in self.readers)
        )

    def is_live(self, reader: Reader, moment: float) -> bool:
        """Return whether a reader has what its visitor wrote last."""
        written = next(one.written for one in self.visitors if one.name == reader.name)
        return (
            not written or written[-1] in reader.heard[-5:] or written[-2:-1] == reader.heard[-1:]
        )

    def do[T](self, work: Callable[[], Awaitable[T]]) -> T:
        return self.talk.do(work)
