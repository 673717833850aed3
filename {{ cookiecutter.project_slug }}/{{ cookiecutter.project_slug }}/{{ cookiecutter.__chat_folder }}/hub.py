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
        self.arrivals, self.entries = Batch(arrive), Batch(enter)
        self.departures = Batch(depart)
        self.renewed_at = self.loop.time()
        # The newest list of people in each room, rooms whose list may have changed, and
        # those in which it changed here: other processes have to hear of that.
        self.people: dict[str, str] = {}
        self.changed: set[str] = set()
        self.changed_here: set[str] = set()

    def newest(self, topics: list[str]) -> dict[str, int]:
        return posting.newest(topics)

    def read(self, topic: str, after: int, limit: int) -> list[Frame]:
        return posting.missed(topic, after, limit)

    # Sockets come and go

    async def arrive(self, socket: Socket, room: str, after: int | None) -> None:
        """Take a new socket into its first room, where it begins after the message `after`,
        or with its HISTORY. Raises FrameError if its user has too many sockets."""
        seat = (room, socket.user_id, socket.name)

        async def begin() -> Beginning:
            beginning = await self.arrivals((seat, after))
            if beginning is None:
                raise FrameError(
                    f"You can have {limits.SOCKETS_PER_USER} chats open at once: "
                    "close one.",
                    "sockets per user",
                )
            return beginning

        self.add(socket)
        await self.subscribe(socket, room, begin())
        self.show_newcomer(socket, room)

    async def enter(self, socket: Socket, room: str, after: int | None) -> None:
        """Let a socket hear another room as well."""
        seat = (room, socket.user_id, socket.name)
        await self.subscribe(socket, room, self.entries((seat, after)))
        self.show_newcomer(socket, room)

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
        except Error:
            # Its row will not be renewed.
            logger.exception("chat presence not deleted")
        await self.note_departure(rooms)

    # Who is here

    def show_newcomer(self, socket: Socket, room: str) -> None:
        """Have everybody see who came into a room, and the newcomer who is there."""
        self.changed.add(room)
        self.changed_here.add(room)
        socket.people_sent.pop(room, None)
        if people := self.people.get(room):
            # Until the next list, in which this one is too.
            socket.offer_people(room, people)
        else:
            self.soon.set()

    async def note_departure(self, rooms: Iterable[str]) -> None:
        """Have everybody see that somebody left these rooms."""
        for room in rooms:
            if room in self.topics:
                self.changed.add(room)
                self.changed_here.add(room)
            else:
                # Nobody is left here, and perhaps nothing is going to tick.
                self.people.pop(room, None)
                await apublish(Hint("people", room))

    def handle(self, hint: Hint) -> None:
        if hint.kind == "people":
            if hint.topic in self.topics:
                self.changed.add(hint.topic)
        else:
            super().handle(hint)

    async def tick(self) -> None:
        """Send lists of people, if they changed, and renew the presence of the sockets."""
        while self.changed:
            room = self.changed.pop()
            if room in self.topics:
                await self.show_people(room)
        while self.changed_here:
            await apublish(Hint("people", self.changed_here.pop()))
        if self.loop.time() - self.renewed_at >= self.RENEW_INTERVAL:
            self.renewed_at = self.loop.time()
            seats = [
                (room, one.user_id, one.name)
                for one in self.subscribers
                for room in one.places
            ]
            await database_sync_to_async(presence.renew)(seats)
            # Nobody tells of those whose process died.
            self.changed.update(self.topics)
        await super().tick()

    async def show_people(self, room: str) -> None:
        """Offer the list of who is in a room."""
        names, count = await database_sync_to_async(presence.people)(room)
        self.people[room] = encode("people", room=room, names=names, count=count)
        if topic := self.topics.get(room):
            for socket in topic.subscribers:
                socket.offer_people(room, self.people[room])


def arrive(entries: list[Entry]) -> list[Beginning | None]:
    """Write that new sockets are in their rooms; return where they begin to hear, None for
    those whose user has too many."""
    admitted = presence.arrive([seat for seat, _ in entries])
    return [
        beginning if enters else None
        for beginning, enters in zip(begin_in(entries), admitted, strict=True)
    ]


def enter(entries: list[Entry]) -> list[Beginning]:
    """Write that sockets are in other rooms as well; return where they begin to hear."""
    presence.renew(seat for seat, _ in entries)
    return begin_in(entries)


def depart(names: list[str]) -> list[None]:
    """Write that sockets are gone."""
    presence.leave(names)
    return [None] * len(names)


def begin_in(entries: list[Entry]) -> list[Beginning]:
    """Return where each socket begins to hear its room."""
    newest = posting.newest({room for (room, _, _), _ in entries})
    history = {
        room: posting.start_of_history(room)
        for room in {room for (room, _, _), after in entries if after is None}
    }
    found = []
    for (room, _, _), after in entries:
        last = newest.get(room, 0)
        found.append((history[room] if after is None else min(after, last), last))
    return found
