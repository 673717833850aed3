"""The rooms of one process: who hears them, and who is in them.

What carries messages is in serving/live/. Here is what a room has, and the list of people.
"""

from collections.abc import Iterable

import structlog
from channels.db import database_sync_to_async
from django.db import Error

from serving.live import hub
from serving.live.batches import Batch
from serving.live.hints import Hint, apublish
from serving.live.subscribers import Frame
from serving.threads import Overloaded

from . import limits, posting, presence
from .frames import FrameError, encode
from .sockets import Socket

logger = structlog.get_logger(__name__)

# A socket in a room, and the last message of it that its browser has, if it has one.
type Entry = tuple[presence.Seat, int | None]
# The message after which a socket begins to hear a room, and the room's newest.
type Beginning = tuple[int, int]


class Hub(hub.Hub[Socket]):
    """The sockets of this process. The topics are the names of rooms."""

    POLL_INTERVAL = POLL_INTERVAL_WITHOUT_HINTS = 3.0
    # Seconds after which the presence of the sockets here is renewed.
    RENEW_INTERVAL = presence.PRESENCE_TTL / 3

    def __init__(self) -> None:
        super().__init__()
        # Browsers come and go together: when a server restarts, or a network.
        self.entries, self.departures = Batch(enter), Batch(depart)
        self.renewed_at = self.loop.time()
        # The newest list of people in each room, and the rooms whose list may have changed:
        # True if it changed here, of which other processes have to hear.
        self.people: dict[str, str] = {}
        self.changed: dict[str, bool] = {}

    def newest(self, topics: list[str]) -> dict[str, int]:
        return posting.newest(topics)

    def read(self, topic: str, after: int, limit: int) -> list[Frame]:
        return posting.missed(topic, after, limit)

    # Sockets come and go

    async def enter(self, socket: Socket, room: str, after: int | None) -> None:
        """Let a socket hear a room, from the message after `after` or its HISTORY on.

        Raises FrameError if its user has too many sockets.
        """
        self.add(socket)
        await self.subscribe(socket, room, self.begin(socket, room, after))
        self.changed[room] = True
        socket.people_sent.pop(room, None)
        if people := self.people.get(room):
            # Until the next list, in which this one is too.
            socket.offer_people(room, people)
        else:
            self.soon.set()

    async def begin(self, socket: Socket, room: str, after: int | None) -> Beginning:
        """Write that a socket is in a room; return where it begins to hear it."""
        beginning = await self.entries(((room, socket.user_id, socket.name), after))
        if beginning is None:
            raise FrameError(
                f"You can have {limits.SOCKETS_PER_USER} chats open at once: close one.",
                "sockets per user",
            )
        return beginning

    async def leave(self, socket: Socket, room: str) -> None:
        """Let a socket hear a room no more."""
        self.unsubscribe(socket, room)
        await database_sync_to_async(presence.leave)([socket.name], room)
        await self.note_departure([room])

    async def depart(self, socket: Socket) -> None:
        """Let go of a socket that was closed."""
        rooms = list(socket.places)
        self.remove(socket)
        try:
            await self.departures(socket.name)
        except (Error, Overloaded):
            # Its row will not be renewed.
            logger.exception("chat presence not deleted")
        await self.note_departure(rooms)

    # Who is here

    async def note_departure(self, rooms: Iterable[str]) -> None:
        """Have everybody see that somebody left these rooms."""
        for room in rooms:
            if room in self.topics:
                self.changed[room] = True
            else:
                # Nobody is left here, and perhaps no work is done any more.
                self.people.pop(room, None)
                await apublish(Hint("people", room))

    def handle(self, hint: Hint) -> None:
        if hint.kind == "people":
            if hint.topic in self.topics:
                self.changed.setdefault(hint.topic, False)
        else:
            super().handle(hint)

    async def do_due(self) -> None:
        """Send lists of people, if they changed, and renew the presence of the sockets."""
        for room in list(self.changed):
            here = self.changed.pop(room)
            try:
                if room in self.topics:
                    await self.show_people(room)
                if here:
                    await apublish(Hint("people", room))
            except (Exception, Overloaded) as error:
                logger.error("people not shown", room=room, error=repr(error))
                self.changed[room] = here or self.changed.get(room, False)
        await super().do_due()
        if self.loop.time() - self.renewed_at >= self.RENEW_INTERVAL:
            self.renewed_at = self.loop.time()
            seats = [
                (room, one.user_id, one.name)
                for one in self.subscribers
                for room in one.places
            ]
            await database_sync_to_async(presence.renew)(seats)
            # Nobody tells of those whose process died.
            self.changed = dict.fromkeys(self.topics, False) | self.changed

    async def show_people(self, room: str) -> None:
        """Offer the list of who is in a room."""
        names, count = await database_sync_to_async(presence.people)(room)
        if topic := self.topics.get(room):
            self.people[room] = encode("people", room=room, names=names, count=count)
            for socket in topic.subscribers:
                socket.offer_people(room, self.people[room])


def enter(entries: list[Entry]) -> list[Beginning | None]:
    """Write that sockets are in rooms; return where each begins to hear, None if its user
    has too many."""
    admitted = presence.enter([seat for seat, _ in entries])
    newest = posting.newest({room for (room, _, _), _ in entries})
    history = {
        room: posting.start_of_history(room)
        for room in {room for (room, _, _), after in entries if after is None}
    }
    found: list[Beginning | None] = []
    for ((room, _, _), after), enters in zip(entries, admitted, strict=True):
        last = newest.get(room, 0)
        start = history[room] if after is None else min(after, last)
        found.append((start, last) if enters else None)
    return found


def depart(names: list[str]) -> list[None]:
    """Write that sockets are gone."""
    presence.leave(names)
    return [None] * len(names)
