"""People who talk in a room while things go wrong, and a network cable to pull.

They speak the protocol of the emitted chat as its page does: a key for each message, which is
repeated until it is acknowledged, and the last id when they come back.
"""

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.services import wait_until

# Seconds without an answer after which a connection is given up. Pages wait for longer.
PATIENCE = 3


class Cable:
    """A TCP proxy on loopback that can be cut: then nothing passes, and nothing is closed."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.port = 0
        self.whole = asyncio.Event()
        self.whole.set()
        self.tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.whole.wait()
        try:
            there = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.close()
            return
        for source, target in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(self.carry(source, target))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self.whole.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


class Person:
    """Somebody in the room, who says something again and again."""

    def __init__(self, name: str, url: str, headers: dict[str, str], origin: str) -> None:
        self.name = name
        self.url = url
        self.headers = headers
        self.origin = origin
        self.heard: list[int] = []
        self.said: list[str] = []
        self.outbox: list[dict[str, str]] = []
        self.connections = 0
        # When the last message was acknowledged.
        self.stored_at = 0.0
        self.changed = asyncio.Event()

    async def stay(self) -> None:
        """Be in the room, whatever happens to the connection."""
        while True:
            last = self.heard[-1] if self.heard else 0
            with suppress(OSError, WebSocketException):
                async with connect(
                    f"{self.url}?after={last}",
                    additional_headers=self.headers,
                    origin=self.origin,  # type: ignore[arg-type]
                    open_timeout=PATIENCE,
                    ping_interval=1,
                    ping_timeout=PATIENCE,
                    close_timeout=0.1,
                    proxy=None,
                ) as socket:
                    self.connections += 1
                    speaking = asyncio.create_task(self.speak(socket))
                    try:
                        async for data in socket:
                            self.hear(json.loads(data))
                    finally:
                        speaking.cancel()
            await asyncio.sleep(0.2)

    async def speak(self, socket: ClientConnection) -> None:
        """Send what is to be said, one at a time, until each is acknowledged."""
        with suppress(WebSocketException):
            while True:
                if self.outbox:
                    await socket.send(json.dumps({"type": "message", **self.outbox[0]}))
                self.changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        await self.changed.wait()

    def say(self, number: int) -> None:
        key = f"{self.name}-{number}"
        self.said.append(key)
        self.outbox.append({"key": key, "text": f"{number} of {self.name}"})
        if len(self.outbox) == 1:
            self.changed.set()

    def hear(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "message":
            self.heard.append(frame["id"])
        elif frame["type"] == "stored":
            self.stored_at = time.monotonic()
            self.outbox = [one for one in self.outbox if one["key"] != frame["key"]]
            self.changed.set()
        elif frame["type"] == "error":
            # Too fast: once more, after a while.
            assert frame.get("limit") == "messages per second" or frame.get("again"), frame
            asyncio.get_running_loop().call_later(0.5, self.changed.set)


class Talk:
    """The people of a room, in an event loop of their own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.people: list[Person] = []
        self.cables: list[Cable] = []
        self.numbers = itertools.count(1)
        self.tasks: list[Any] = []
        self.talking = False

    def do[T](self, work: Callable[[], Awaitable[T]]) -> T:
        """Run something in the loop and return what it returns."""

        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)

    def cable(self, to: int) -> Cable:
        """Return a new cable to a port."""

        async def make() -> Cable:
            cable = Cable(to)
            await cable.open()
            return cable

        self.cables.append(self.do(make))
        return self.cables[-1]

    def begin(self, *people: tuple[str, str, dict[str, str], str]) -> None:
        """Let people come into the room and talk."""

        async def enter() -> None:
            self.people = [Person(*facts) for facts in people]
            self.tasks = [asyncio.create_task(person.stay()) for person in self.people]
            self.tasks.append(asyncio.create_task(self.chatter()))

        self.talking = True
        self.do(enter)

    async def chatter(self) -> None:
        """Let everybody say something every second, slower than any limit."""
        while True:
            for person in self.people:
                if self.talking:
                    person.say(next(self.numbers))
                await asyncio.sleep(1 / len(self.people))

    def settle(self) -> list[str]:
        """Let everybody finish what they have to say and hear all of it; return the keys."""
        self.talking = False
        wait_until(lambda: not any(person.outbox for person in self.people), "all is said")
        said = sorted(key for person in self.people for key in person.said)
        wait_until(
            lambda: all(len(set(person.heard)) >= len(said) for person in self.people),
            "all is heard",
        )
        return said

    def end(self) -> None:
        async def cancel() -> None:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

        self.do(cancel)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
