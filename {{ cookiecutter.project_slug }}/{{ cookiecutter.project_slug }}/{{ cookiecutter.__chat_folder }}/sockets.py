"""One open socket: which rooms it hears, and what is on its way to its browser."""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable

import structlog
from django.db import DatabaseError

from {{ cookiecutter.project_slug }}.users.batches import Batch

from . import limits, posting

logger = structlog.get_logger(__name__)

# Messages that are read from the database at once, for a browser that missed some.
CHUNK = 100


class Place:
    """A socket's place in a room, from its entering to its leaving."""

    def __init__(self, last: int, behind: bool) -> None:
        # The newest message that is on its way to the browser, or there.
        self.last = last
        # Whether messages after `last` have to be read from the database first, and whether
        # another one came since that was begun.
        self.behind = self.again = behind
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
        self,
        user_id: int,
        session_key: str | None,
        send: Callable[[str], Awaitable[None]],
    ) -> None:
        self.name = secrets.token_hex(16)
        self.user_id = user_id
        self.session_key = session_key
        self.send = send
        self.places: dict[str, Place] = {}
        self.waiting: deque[tuple[str, Place, str]] = deque()
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
            self.waiting.append((room, place, frame))
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

    def is_in(self, room: str, place: Place) -> bool:
        """Return whether messages for a place are still wanted."""
        return not self.closing and self.places.get(room) is place

    async def write(self) -> int:
        """Send what there is to send, until the socket is to be closed; return the code."""
        while not self.closing:
            await self.wake.wait()
            self.wake.clear()
            await self.send_waiting()
            for room, place in list(self.places.items()):
                # What waits of this room is older than what has to be read.
                await self.send_waiting()
                if place.behind and self.is_in(room, place):
                    await self.catch_up(room, place)
                if place.people and self.is_in(room, place):
                    place.people_sent, place.people = place.people, ""
                    await self.send(place.people_sent)
        return self.closing

    async def send_waiting(self) -> None:
        """Send the messages that wait in memory."""
        while self.waiting:
            room, place, frame = self.waiting.popleft()
            if self.is_in(room, place):
                await self.send(frame)

    async def catch_up(self, room: str, place: Place) -> None:
        """Send the next messages that the browser has not got, from the database."""
        place.again = False
        try:
            frames = await read_missed((room, place.last))
        except DatabaseError:
            logger.exception("chat messages not read", room=room)
            await asyncio.sleep(1)
            self.wake.set()
            return
        for message_id, frame in frames:
            if not self.is_in(room, place):
                return
            place.last = message_id
            await self.send(frame)
        # Whatever was committed after that was read is still going to be offered.
        if len(frames) == CHUNK or place.again:
            self.wake.set()
        else:
            place.behind = False


def read_chunks(places: list[tuple[str, int]]) -> list[list[tuple[int, str]]]:
    """Return the next messages after each of these. Many have missed the same ones."""
    found = {place: posting.missed(*place, CHUNK) for place in set(places)}
    return [found[place] for place in places]


read_missed = Batch(read_chunks)
