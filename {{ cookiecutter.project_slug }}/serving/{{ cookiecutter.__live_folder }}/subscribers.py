# The template updates this file: see serving/README.md.
"""An open connection: its subscriptions, and the frames that wait for its browser."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from serving import outages
from serving.threads import Overloaded

# Frames of one connection in memory, and frames of one query. If a browser reads slowly,
# more frames wait in the database.
MAX_WAITING = 50
# Seconds until a failed query is retried.
BACKOFF = 1

# Why the site closes a connection. It is also the close code of a WebSocket, where 4000 to
# 4999 are for applications.
SESSION_ENDED = 4401

# A frame with its id. The frames of a topic are ordered by id.
type Frame = tuple[int, str]
# Returns the first MAX_WAITING frames of a topic after an id.
type Read = Callable[[tuple[str, int]], Awaitable[list[Frame]]]


class Place:
    """A subscription: the position of a subscriber in a topic."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        # Whether the start is known, and the id of the last frame that was queued.
        self.begun = False
        self.last = 0
        # Whether frames after `last` must be read from the database first, and whether a
        # new frame came during such a query.
        self.behind = self.again = False

    def begin(self, start: int, newest: int) -> None:
        """Start after the id `start`. A query is needed only if frames were missed."""
        self.begun = True
        self.last = start
        self.behind = self.again or start < newest


class Subscriber:
    """An open connection, as the hub of its process sees it.

    The hub never waits for a browser: offer() puts a frame into a short queue. If the queue
    is full because the browser reads slowly, later frames are read from the database.
    """

    def __init__(self, read: Read, user_id: int, session_key: str | None) -> None:
        self.read = read
        self.user_id = user_id
        self.session_key = session_key
        self.places: dict[str, Place] = {}
        self.waiting: deque[tuple[Place, str]] = deque()
        self.wake = asyncio.Event()
        # The reason to close it, or 0.
        self.closing = 0
        # When its session was last checked, by the clock of the event loop. Not at the
        # start: it may have ended since it was looked up for this connection.
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
        """Stop sending frames, and close the connection."""
        self.closing = reason
        self.wake.set()

    async def next_frame(self, until: float | None = None) -> str | None:
        """Return the next frame; None if this is closed, or at the time `until`."""
        while not self.closing:
            self.wake.clear()
            while self.waiting:
                place, frame = self.waiting.popleft()
                if self.places.get(place.topic) is place:
                    return frame
            behind = [place for place in self.places.values() if place.behind]
            if behind:
                await self.catch_up(behind[0])
                # A query that fails must not delay the caller's heartbeat.
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
        """Return a frame of low priority, which is sent when no other frame waits."""
        return None

    async def catch_up(self, place: Place) -> None:
        """Read the next frames that the browser has missed."""
        place.again = False
        try:
            found = await self.read((place.topic, place.last))
        except (Exception, Overloaded) as error:
            outages.report("frames not read", error, topic=place.topic)
            # Move it behind the other topics, whose queries may work.
            if self.places.get(place.topic) is place:
                self.places[place.topic] = self.places.pop(place.topic)
            await asyncio.sleep(BACKOFF)
            return
        for frame_id, frame in found:
            place.last = frame_id
            self.waiting.append((place, frame))
        # Frames that were committed after the query will be offered.
        place.behind = len(found) >= MAX_WAITING or place.again
