"""What one process hears of the rooms, and the sockets that it passes it on to.

Each process joins the channel layer's group of a room once, however many sockets it has
there, and encodes and looks up everything once. It never relies on the layer and believes
nothing that comes through it: an event is a hint to look into the database, which is asked
every few seconds as well whether something was said that nobody told of. So nothing is lost
when Redis is restarted or away, nothing of another site on that Redis is shown, and what
another process stores arrives without Redis as well, a little later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any

import structlog
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import DatabaseError
from redis.exceptions import RedisError

from {{ cookiecutter.project_slug }}.users.batches import Batch
from {{ cookiecutter.project_slug }}.users.sessions import users_of

from . import limits, posting, presence, sessions
from .frames import SESSION_ENDED, FrameError, encode, encode_message
from .models import Message
from .sockets import CHUNK, Place, Socket

logger = structlog.get_logger(__name__)

# Seconds: how often lists of people are sent, if they changed; how often to look for what
# was said and not told, to renew the presence of the sockets here, to look at a session.
TICK = 1
LOOK = 3
RENEW = presence.LASTS / 3
CHECK = 60
# Channel layers may forget a group after a day.
JOIN_AGAIN = 3600


class LocalRoom:
    """A room as this process knows it: its sockets, and the newest message they heard."""

    def __init__(self, last: int) -> None:
        self.sockets: set[Socket] = set()
        self.last = last
        self.joined_at: float | None = None
        # The newest list of people here. It may have changed; others have to be told of it.
        self.people = ""
        self.changed = self.changed_here = True


class Hub:
    """The ears of one process, from its first socket on."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.layer = get_channel_layer()
        self.rooms: dict[str, LocalRoom] = {}
        self.sockets: set[Socket] = set()
        self.channel = ""
        # By the clock of the event loop.
        self.looked_at = self.renewed_at = self.loop.time()
        self.joined_at: float | None = None
        self.resting_until = 0.0
        # Browsers come and go together: when a server restarts, or a network.
        self.arrivals, self.entries, self.ends = Batch(arrive), Batch(enter), Batch(end)
        # Set where look_around() should not wait for its next TICK.
        self.soon = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        # Apart: a layer that hangs must not keep anybody from looking into the database.
        self.begin(self.again_and_again(self.look_around, self.soon))
        self.begin(self.again_and_again(self.speak_with_layer, asyncio.Event()))

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the background, in no socket's context: its request's id is not
        that of all others."""
        self.tasks.add(self.loop.create_task(work, context=Context()))

    async def again_and_again(
        self, work: Callable[[], Awaitable[None]], soon: asyncio.Event
    ) -> None:
        """Do some work every TICK, and `soon`, whatever became of it the last time."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await soon.wait()
            soon.clear()
            try:
                await work()
            except Exception:
                logger.exception("chat tries again")

    # Sockets come and go

    async def arrive(self, socket: Socket, room: str, after: int | None) -> None:
        """Take a new socket, which hears its first room. Raises FrameError if its user has
        too many."""
        self.sockets.add(socket)
        seat = (room, socket.user_id, socket.name)
        begin = await self.arrivals((seat, after))
        if begin is None:
            raise FrameError(
                f"You can have {limits.SOCKETS_PER_USER} chats open at once: close one.",
                "sockets per user",
            )
        self.place(socket, room, *begin)

    async def enter(self, socket: Socket, room: str, after: int | None) -> None:
        """Let a socket hear a room, from the message after `after` or its HISTORY on."""
        seat = (room, socket.user_id, socket.name)
        self.place(socket, room, *await self.entries((seat, after)))

    def place(self, socket: Socket, room: str, start: int, last: int) -> None:
        """Put a socket into a room here."""
        local = self.rooms.setdefault(room, LocalRoom(last))
        # Who has missed nothing needs no query; whatever comes now is offered.
        socket.places[room] = Place(start, behind=start < max(last, local.last))
        local.sockets.add(socket)
        local.changed = local.changed_here = True
        if local.people:
            # Until the next list, in which this one is too.
            socket.offer_people(room, local.people)
        else:
            self.soon.set()
        socket.wake.set()

    async def leave(self, socket: Socket, room: str) -> None:
        """Let a socket hear a room no more."""
        self.forget(socket, room)
        await database_sync_to_async(presence.leave)([socket.name], room)

    async def remove(self, socket: Socket) -> None:
        """Let go of a socket that was closed."""
        for room in list(socket.places):
            self.forget(socket, room)
        self.sockets.discard(socket)
        try:
            await self.ends(socket.name)
        except DatabaseError:
            # Its row will not be renewed.
            logger.exception("chat presence not deleted")

    def forget(self, socket: Socket, room: str) -> None:
        """Take a socket out of a room here."""
        del socket.places[room]
        local = self.rooms[room]
        local.sockets.discard(socket)
        local.changed = local.changed_here = True
        if not local.sockets:
            local.people = ""

    # What the layer says, and is told

    async def speak_with_layer(self) -> None:
        """Join the groups of new rooms, leave those of empty ones, tell of people."""
        if not self.rooms or self.loop.time() < self.resting_until:
            return
        try:
            for room, local in list(self.rooms.items()):
                if local.changed_here:
                    local.changed_here = False
                    event = {"type": "chat.people", "room": room}
                    await posting.tell(posting.group_of(room), event)
                async with asyncio.timeout(posting.PUBLISH_TIMEOUT):
                    if local.sockets:
                        await self.join(room, local)
                    elif local.joined_at:
                        local.joined_at = None
                        await self.layer.group_discard(posting.group_of(room), self.channel)
                # Somebody may have come in between.
                if not local.sockets:
                    del self.rooms[room]
        except (OSError, RedisError) as error:
            self.resting_until = self.loop.time() + posting.REST
            logger.warning("channel layer is away", error=repr(error))

    async def join(self, room: str, local: LocalRoom) -> None:
        """Join the layer's group of a room, if that was not done or is long ago."""
        now = self.loop.time()
        if self.joined_at is None or now - self.joined_at >= JOIN_AGAIN:
            if not self.channel:
                # A layer that is away says so here, where nothing of it is left behind.
                await self.layer.group_send(sessions.GROUP, {"type": "chat.hello"})
                self.channel = await self.layer.new_channel()
                self.begin(self.listen(self.channel))
            await self.layer.group_add(sessions.GROUP, self.channel)
            self.joined_at = now
            # What was told of their sessions before that was not heard here.
            for socket in self.sockets:
                socket.checked_at = now - CHECK
        if local.joined_at is None or now - local.joined_at >= JOIN_AGAIN:
            await self.layer.group_add(posting.group_of(room), self.channel)
            local.joined_at = now
            # What was said before is to be found now.
            self.looked_at = 0

    async def listen(self, channel: str) -> None:
        """Take what comes through the layer, whatever that is."""
        while True:
            try:
                await self.hear(await self.layer.receive(channel))
            except DatabaseError:
                # look_around() finds it.
                logger.exception("chat event not passed on")
            except Exception as error:
                # Also of what the layer could not decode.
                logger.warning("chat event not understood", error=repr(error)[:200])
                # If it fails again and again, log and CPU shall not be full of it.
                await asyncio.sleep(0.1)

    async def hear(self, event: object) -> None:
        """Look into the database where an event says so. Raises ValueError if it is none.

        Others may have written it: nothing in it is shown and nothing counts as heard. What
        is told of while this looks is mostly found by it, and not looked for again.
        """
        match event:
            case {"type": "chat.message", "room": str(room), "id": int(newest)}:
                local = self.rooms.get(room)
                if local and newest > local.last:
                    await self.look_for_missed(room, local)
            case {"type": "chat.people", "room": str(room)}:
                if local := self.rooms.get(room):
                    local.changed = True
            case {"type": "chat.session", "user": int(user_id)}:
                await self.check([s for s in self.sockets if s.user_id == user_id])
            case {"type": "chat.hello"}:
                pass
            case _:
                raise ValueError(f"no event: {event!r}")

    async def take(self, room: str, message: Message, previous: int) -> None:
        """Pass on a message that this process has stored, after the one before it."""
        if local := self.rooms.get(room):
            if previous > local.last:
                await self.look_for_missed(room, local)
            self.pass_on(room, local, message.pk, encode_message(message, room))

    def pass_on(self, room: str, local: LocalRoom, message_id: int, frame: str) -> None:
        """Offer a message to the sockets of a room."""
        if message_id > local.last:
            local.last = message_id
            for socket in local.sockets:
                socket.offer(room, message_id, frame)

    # What the database says

    async def look_around(self) -> None:
        """Do what is due: send lists of people, look for messages, renew presence, look at
        sessions."""
        now = self.loop.time()
        for room, local in list(self.rooms.items()):
            if local.changed and local.sockets:
                local.changed = False
                await self.show_people(room, local)
        if self.rooms and now - self.looked_at >= LOOK:
            self.looked_at = now
            found = await database_sync_to_async(posting.newest)(list(self.rooms))
            for room, last in found.items():
                if (behind := self.rooms.get(room)) and behind.last < last:
                    await self.look_for_missed(room, behind)
                    # The newest ones may have been deleted.
                    behind.last = max(behind.last, last)
        if self.sockets and now - self.renewed_at >= RENEW:
            self.renewed_at = now
            seats = [(room, s.user_id, s.name) for s in self.sockets for room in s.places]
            await database_sync_to_async(presence.renew)(seats)
            # Of those in processes that died nobody tells.
            for local in self.rooms.values():
                local.changed = True
        due = [socket for socket in self.sockets if now - socket.checked_at >= CHECK]
        # Not all at once, if they came at once: each is a query or two.
        await self.check(due[: max(50, len(self.sockets) // CHECK)])

    async def look_for_missed(self, room: str, local: LocalRoom) -> None:
        """Pass on what was said without being told."""
        frames = [(0, "")] * CHUNK
        while len(frames) == CHUNK:
            frames = await database_sync_to_async(posting.missed)(room, local.last, CHUNK)
            for message_id, frame in frames:
                self.pass_on(room, local, message_id, frame)

    async def show_people(self, room: str, local: LocalRoom) -> None:
        """Offer the list of who is in a room."""
        names, count = await database_sync_to_async(presence.people)(room)
        local.people = encode("people", room=room, names=names, count=count)
        for socket in local.sockets:
            socket.offer_people(room, local.people)

    async def check(self, sockets: list[Socket]) -> None:
        """Close those sockets whose session has ended."""
        if not sockets:
            return
        keys = [socket.session_key for socket in sockets]
        users = await database_sync_to_async(users_of)(keys)
        for socket, user in zip(sockets, users, strict=True):
            socket.checked_at = self.loop.time()
            if user is None or socket.user_id != user.pk:
                socket.close(SESSION_ENDED)


# A socket in a room, and the last message of it that its browser has, if it has one.
type Entry = tuple[presence.Seat, int | None]


def arrive(entries: list[Entry]) -> list[tuple[int, int] | None]:
    """Write that new sockets are in their rooms; return where they begin to hear, None for
    those whose user has too many."""
    admitted = presence.arrive([seat for seat, _ in entries])
    return [
        begin if enters else None
        for begin, enters in zip(begin_in(entries), admitted, strict=True)
    ]


def enter(entries: list[Entry]) -> list[tuple[int, int]]:
    """Write that sockets are in other rooms as well; return where they begin to hear."""
    presence.renew(seat for seat, _ in entries)
    return begin_in(entries)


def end(names: list[str]) -> list[None]:
    """Write that sockets are gone."""
    presence.leave(names)
    return [None] * len(names)


def begin_in(entries: list[Entry]) -> list[tuple[int, int]]:
    """Return the message after which each socket hears its room, and the room's newest."""
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


current: Hub | None = None


def here() -> Hub:
    """Return the hub of this process: of its event loop, of which tests have several."""
    global current
    if current is None or current.loop is not asyncio.get_running_loop():
        current = Hub()
    return current
