"""One open socket: which rooms it hears, and what is on its way to its browser."""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable

import structlog
from channels.db import database_sync_to_async
from django.db import DatabaseError

from . import limits, posting

logger = structlog.get_logger(__name__)

# Messages that are read from the database at once, for a browser that missed some.
CHUNK = 100


class Place:
    """A socket's place in a room."""

    def __init__(self, room_id: int, last: int) -> None:
        self.room_id = room_id
        # The newest message that is on its way to the browser, or there.
        self.last = last
        # Whether messages after `last` have to be read from the database first, and whether
        # another one came since that was begun.
        self.behind = self.again = True
        # The newest list of people, until it is sent; and the one that was sent.
        self.people = ""
        self.people_sent = ""


class Socket:
    """An open socket, as the hub of its process knows it.

    What is said in its rooms never waits for its browser: `offer` only takes note, `write`
    sends. A few messages wait in memory; if the browser reads more slowly than people talk,
    the rest waits in the database.
    """

    def __init__(
        self, user_id: int, session_key: str, send: Callable[[str], Awaitable[None]]
    ) -> None:
        self.name = secrets.token_hex(16)
        self.user_id = user_id
        self.session_key = session_key
        self.send = send
        self.places: dict[str, Place] = {}
        self.waiting: deque[str] = deque()
        self.wake = asyncio.Event()
        # The code to close it with, once its session has ended.
        self.closing = 0
        # When its session was looked at, by the clock of the event loop.
        self.checked_at = asyncio.get_running_loop().time()

    def offer(self, room: str, message_id: int, frame: str) -> None:
        """Take a message that was said in a room."""
        place = self.places[room]
        if message_id <= place.last:
            return
        if place.behind or len(self.waiting) >= limits.WAITING:
            place.behind = place.again = True
        else:
            place.last = message_id
            self.waiting.append(frame)
        self.wake.set()

    def offer_people(self, room: str, frame: str) -> None:
        """Take the list of who is in a room. Only the newest one counts."""
        place = self.places[room]
        if frame != place.people_sent:
            place.people = frame
            self.wake.set()

    def close(self, code: int) -> None:
        """Let nothing more through, and close it."""
        self.closing = code
        self.wake.set()

    async def write(self) -> int:
        """Send what there is to send, until the socket is to be closed; return the code."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.waiting and not self.closing:
                await self.send(self.waiting.popleft())
            for room, place in list(self.places.items()):
                if place.behind and not self.closing:
                    await self.catch_up(room, place)
                if place.people and not self.closing:
                    place.people_sent, place.people = place.people, ""
                    await self.send(place.people_sent)
            if self.closing:
                return self.closing

    async def catch_up(self, room: str, place: Place) -> None:
        """Send the next messages that the browser has not got, from the database."""
        place.again = False
        try:
            frames = await database_sync_to_async(posting.missed)(room, place.last, CHUNK)
        except DatabaseError:
            logger.exception("chat messages not read", room=room)
            await asyncio.sleep(1)
            self.wake.set()
            return
        for place.last, frame in frames:
            if self.closing:
                return
            await self.send(frame)
        # Whatever was committed after that was read is still going to be offered.
        if len(frames) == CHUNK or place.again:
            self.wake.set()
        else:
            place.behind = False
