# The template updates this file: see serving/README.md.
"""One open connection: what it is subscribed to, and what waits for its browser."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from serving.threads import Overloaded

logger = structlog.get_logger(__name__)

# Frames that wait in memory for a browser that reads slowly, and those that are read from
# the database at once. What comes after them waits in the database.
MAX_WAITING = 50
# Seconds until a database that failed is asked again.
BACKOFF = 1

# Why the site closes a connection. A WebSocket has these as its close codes, as 4000 and up
# are for applications.
SESSION_ENDED = 4401
STOPPING = 4503

# A frame, with its id: its place in the order of its topic.
type Frame = tuple[int, str]
# Returns the first MAX_WAITING frames of a topic after an id.
type Read = Callable[[tuple[str, int]], Awaitable[list[Frame]]]


class Place:
    """A subscriber's place in a topic."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        # Whether it is known where to begin, and the newest frame that is on its way.
        self.begun = False
        self.last = 0
        # Whether frames after `last` have to be read from the database first, and whether
        # another one came since that was begun.
        self.behind = self.again = False

    def begin(self, start: int, newest: int) -> None:
        """Begin after the id `start`. Whoever has missed nothing needs no query."""
        self.begun = True
        self.last = start
        self.behind = self.again or start < newest


class Subscriber:
    """An open connection, as the hub of its process knows it.

    The hub never waits for a browser: offer() only takes note. A few frames wait in memory.
    If the browser reads more slowly than frames come, the rest waits in the database.
    """

    def __init__(self, read: Read, user_id: int, session_key: str | None) -> None:
        self.read = read
        self.user_id = user_id
        self.session_key = session_key
        self.places: dict[str, Place] = {}
        self.waiting: deque[tuple[Place, str]] = deque()
        self.wake = asyncio.Event()
        # Why it is to be closed, 0 if it is not.
        self.closing = 0
        # When its session was checked, by the clock of the event loop. It may have ended
        # since it was looked up for this connection.
        self.checked_at = float("-inf")

    def offer(self, topic: str, frame_id: int, frame: str) -> None:
        """Take a frame of a topic."""
        place = self.places[topic]
        if not place.begun:
            place.again = True
        elif frame_id > place.last:
            if place.behind or len(self.waiting) >= MAX_WAITING:
                place.behind = place.again = True
            else:
                place.last = frame_id
                self.waiting.append((place, frame))
            self.wake.set()

    def close(self, reason: int) -> None:
        """Let no more frames through."""
        self.closing = reason
        self.wake.set()

    async def next_frame(self, until: float | None = None) -> str | None:
        """Return the next frame; None when this is closed, or at the time `until`."""
        while not self.closing:
            self.wake.clear()
            while self.waiting:
                place, frame = self.waiting.popleft()
                if self.places.get(place.topic) is place:
                    return frame
            behind = [place for place in self.places.values() if place.behind]
            if behind:
                await self.catch_up(behind[0])
                # Also while the database is away.
                if until and asyncio.get_running_loop().time() >= until:
                    break
            elif last := self.last_of_all():
                return last
            else:
                try:
                    async with asyncio.timeout_at(until):
                        await self.wake.wait()
                except TimeoutError:
                    break
        return None

    def last_of_all(self) -> str | None:
        """Return what a browser is sent when it has everything else."""
        return None

    async def catch_up(self, place: Place) -> None:
        """Read the next frames that the browser has not got."""
        place.again = False
        try:
            found = await self.read((place.topic, place.last))
        except (Exception, Overloaded) as error:
            logger.error("frames not read", topic=place.topic, error=repr(error))
            # Behind the other topics, which may be read.
            if self.places.get(place.topic) is place:
                self.places[place.topic] = self.places.pop(place.topic)
            await asyncio.sleep(BACKOFF)
            return
        for frame_id, frame in found:
            place.last = frame_id
            self.waiting.append((place, frame))
        # Whatever was committed after that was read is still going to be offered.
        place.behind = len(found) >= MAX_WAITING or place.again
