"""The rooms of one process: their subscribers, and who is in them.

serving/live/ delivers the messages. This module adds history and presence.
"""

from collections.abc import Iterable

from channels.db import database_sync_to_async
from django.db import Error

from serving import outages
from serving.live import hub
from serving.live.batches import Batch
from serving.live.hints import Hint, apublish
from serving.live.subscribers import Frame
from serving.threads import Overloaded

from . import limits, posting, presence
from .frames import FrameError, encode
from .sockets import Socket

# A socket in a room, and the id of the last message that its browser has, if any.
type Entry = tuple[presence.Seat, int | None]
# The id after which a subscription starts, and the newest id of the room.
type Beginning = tuple[int, int]


class Hub(hub.Hub[Socket]):
    """The sockets of this process. Topics are the names of rooms."""

    POLL_INTERVAL = POLL_INTERVAL_WITHOUT_HINTS = 3.0
    # Seconds.
    RENEW_INTERVAL = presence.PRESENCE_TTL / 3

    def __init__(self) -> None:
        super().__init__()
        # After a restart of the server, all browsers reconnect at the same time.
        self.entries, self.departures = Batch(enter), Batch(depart)
        self.renewed_at = self.loop.time()
        # The newest list of people in each room, and the rooms whose list may have changed.
        # True: it changed in this process, which must tell the others.
        self.people: dict[str, str] = {}
        self.changed: dict[str, bool] = {}

    def newest(self, topics: list[str]) -> dict[str, int]:
        return posting.newest(topics)

    def read(self, topic: str, after: int, limit: int) -> list[Frame]:
        return posting.missed(topic, after, limit)

    # Sockets come and go

    async def enter(self, socket: Socket, room: str, after: int | None) -> None:
        """Subscribe a socket to a room, from the message after `after` or the HISTORY on.

        Raises FrameError if its user has too many sockets.
        """
        self.add(socket)
        await self.subscribe(socket, room, self.begin(socket, room, after))
        self.changed[room] = True
        socket.people_sent.pop(room, None)
        if people := self.people.get(room):
            # The new socket is in the next list, which follows soon.
            socket.offer_people(room, people)
        else:
            self.soon.set()

    async def begin(self, socket: Socket, room: str, after: int | None) -> Beginning:
        """Store that a socket is in a room; return where its subscription starts."""
        beginning = await self.entries(((room, socket.user_id, socket.name), after))
        if beginning is None:
            raise FrameError(
                f"You can have {limits.SOCKETS_PER_USER} chats open at once: close one.",
                "sockets per user",
            )
        return beginning

    async def leave(self, socket: Socket, room: str) -> None:
        """Unsubscribe a socket from a room."""
        self.unsubscribe(socket, room)
        await database_sync_to_async(presence.leave)([socket.name], room)
        await self.note_departure([room])

    async def depart(self, socket: Socket) -> None:
        """Remove a socket that was closed."""
        rooms = list(socket.places)
        self.remove(socket)
        try:
            await self.departures(socket.name)
        except (Error, Overloaded) as error:
            # Its row expires, because nobody renews it.
            outages.report("chat presence not deleted", error)
        await self.note_departure(rooms)

    # Who is here

    async def note_departure(self, rooms: Iterable[str]) -> None:
        """Have the lists of people updated, because somebody left these rooms."""
        for room in rooms:
            if room in self.topics:
                self.changed[room] = True
            else:
                # This process has no socket in the room, so nobody calls do_due() for it.
                self.people.pop(room, None)
                await apublish(Hint("people", room))

    def handle(self, hint: Hint) -> None:
        if hint.kind == "people":
            if hint.topic in self.topics:
                self.changed.setdefault(hint.topic, False)
        else:
            super().handle(hint)

    async def do_due(self) -> None:
        """Send the lists of people that changed, and renew the presence of the sockets."""
        for room in list(self.changed):
            here = self.changed.pop(room)
            try:
                if room in self.topics:
                    await self.show_people(room)
                if here:
                    await apublish(Hint("people", room))
            except (Exception, Overloaded) as error:
                outages.report("people not shown", error, room=room)
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
            # A process that died has sent no hint.
            self.changed = dict.fromkeys(self.topics, False) | self.changed

    async def show_people(self, room: str) -> None:
        """Send the list of people to all sockets in a room."""
        names, count = await database_sync_to_async(presence.people)(room)
        if topic := self.topics.get(room):
            self.people[room] = encode("people", room=room, names=names, count=count)
            for socket in topic.subscribers:
                socket.offer_people(room, self.people[room])


def enter(entries: list[Entry]) -> list[Beginning | None]:
    """Store that sockets are in rooms; return where each subscription starts, or None if
    the user has too many sockets."""
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
    """Store that sockets are gone."""
    presence.leave(names)
    return [None] * len(names)
