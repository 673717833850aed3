"""What one process hears of the rooms, and the sockets that it passes it on to.

Each process joins the channel layer's group of a room once, however many sockets it has
there, and encodes and looks up everything once. It never relies on the layer: messages name
the one before them, so that a gap is noticed, and the database is asked every few seconds
whether something was said that nobody told of. So nothing is lost when Redis is restarted
or away, and what another process stores arrives without Redis as well, a little later.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any

import structlog
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import DatabaseError
from redis.exceptions import RedisError

from . import posting, presence, sessions
from .frames import SESSION_ENDED, encode
from .models import Room
from .sockets import CHUNK, Place, Socket

logger = structlog.get_logger(__name__)

# Seconds: how often lists of people are sent, if they changed; how often to look for what
# was said and not told, to renew the presence of the sockets here, to look at a session.
TICK = 1
LOOK = 3
RENEW = presence.LASTS / 3
CHECK = 60
# Sessions to look at in one go.
CHECKS = 50
# Channel layers may forget a group after a day.
JOIN_AGAIN = 3600


class LocalRoom:
    """A room as this process knows it: its sockets, and the newest message they heard."""

    def __init__(self, last: int) -> None:
        self.sockets: set[Socket] = set()
        self.last = last
        self.joined_at: float | None = None
        # The list of people may have changed, here or in another process.
        self.changed_here = self.changed = True


class Hub:
    """The ears of one process, while it has sockets."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.layer = get_channel_layer()
        self.rooms: dict[str, LocalRoom] = {}
        self.sockets: set[Socket] = set()
        self.channel = ""
        self.joining = asyncio.Lock()
        self.tasks: list[asyncio.Task[None]] = []
        # By the clock of the event loop.
        self.looked_at = self.renewed_at = self.loop.time()

    # Sockets come and go

    def add(self, socket: Socket) -> None:
        """Take a socket that was opened. The first one starts this hub."""
        if not self.tasks:
            self.begin(self.keep())
        self.sockets.add(socket)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the background, in no socket's context: its request's id is not
        that of all others."""
        self.tasks.append(self.loop.create_task(work, context=Context()))

    async def enter(self, socket: Socket, room: str, after: int | None) -> None:
        """Let a socket hear a room, from the message after `after` or its HISTORY on."""
        place, last = await database_sync_to_async(open_place)(socket, room, after)
        local = self.rooms.get(room)
        if not local:
            local = self.rooms[room] = LocalRoom(last)
        socket.places[room] = place
        local.sockets.add(socket)
        local.changed_here = True
        socket.wake.set()
        if not local.joined_at:
            await self.join(room, local)
            # What was said before this process could hear of it.
            self.looked_at = 0

    async def leave(self, socket: Socket, room: str) -> None:
        """Let a socket hear a room no more."""
        self.forget(socket, room)
        await database_sync_to_async(presence.leave)(socket.name, room)

    async def remove(self, socket: Socket) -> None:
        """Let go of a socket that was closed. The last one ends this hub."""
        for room in list(socket.places):
            self.forget(socket, room)
        self.sockets.discard(socket)
        try:
            await database_sync_to_async(presence.leave)(socket.name)
        except DatabaseError:
            # Its row will not be renewed.
            logger.exception("chat presence not deleted")
        if not self.sockets:
            for task in self.tasks:
                task.cancel()
            self.tasks, self.channel = [], ""
            self.rooms.clear()

    def forget(self, socket: Socket, room: str) -> None:
        """Take a socket out of a room here."""
        socket.places.pop(room, None)
        if local := self.rooms.get(room):
            local.sockets.discard(socket)
            local.changed_here = True

    # What the layer says

    async def join(self, room: str, local: LocalRoom) -> None:
        """Join the layer's group of a room; `keep` tries again if the layer is away."""
        async with self.joining:
            now = self.loop.time()
            if local.joined_at and now - local.joined_at < JOIN_AGAIN:
                return
            try:
                async with asyncio.timeout(posting.PATIENCE):
                    if not self.channel:
                        channel = await self.layer.new_channel()
                        await self.layer.group_add(sessions.GROUP, channel)
                        self.channel = channel
                        self.begin(self.listen(channel))
                    await self.layer.group_add(posting.group_of(room), self.channel)
                local.joined_at = now
            except (OSError, RedisError) as error:
                logger.warning("channel layer is away", room=room, error=str(error))

    async def listen(self, channel: str) -> None:
        """Pass on what comes through the layer."""
        while True:
            event = await self.layer.receive(channel)
            try:
                await self.hear(event)
            except Exception:
                # keep() looks again.
                logger.exception("chat event not passed on", type=event["type"])

    async def hear(self, event: posting.Event) -> None:
        """Pass on one event."""
        local = self.rooms.get(event.get("room", ""))
        match event["type"]:
            case "chat.session":
                mine = [s for s in self.sockets if s.user_id == event["user"]]
                for socket in mine:
                    if sessions.digest(socket.session_key) == event["ended"]:
                        socket.close(SESSION_ENDED)
                await self.check([socket for socket in mine if not socket.closing])
            case "chat.people" if local:
                local.changed = True
            case "chat.message" if local and event["id"] > local.last:
                if event["previous"] > local.last:
                    await self.look_for_missed(event["room"], local)
                self.pass_on(event["room"], local, event["id"], event["frame"])

    def pass_on(self, room: str, local: LocalRoom, message_id: int, frame: str) -> None:
        """Offer a message to the sockets of a room."""
        if message_id > local.last:
            local.last = message_id
            for socket in local.sockets:
                socket.offer(room, message_id, frame)

    async def look_for_missed(self, room: str, local: LocalRoom) -> None:
        """Pass on what was said without being told."""
        frames = [(0, "")] * CHUNK
        while len(frames) == CHUNK:
            frames = await database_sync_to_async(posting.missed)(room, local.last, CHUNK)
            for message_id, frame in frames:
                self.pass_on(room, local, message_id, frame)

    # What is done again and again

    async def keep(self) -> None:
        """Do what the clock asks for, as long as there are sockets."""
        while True:
            await asyncio.sleep(TICK)
            try:
                await self.tick(self.loop.time())
            except Exception:
                logger.exception("chat looks again later")

    async def tick(self, now: float) -> None:
        """Do what is due."""
        for room, local in list(self.rooms.items()):
            if local.changed_here:
                local.changed_here, local.changed = False, True
                event = {"type": "chat.people", "room": room}
                await posting.tell(posting.group_of(room), event)
            if not local.sockets:
                await self.close(room)
                continue
            await self.join(room, local)
            if local.changed:
                local.changed = False
                await self.show_people(room, local)
        if now - self.looked_at >= LOOK:
            self.looked_at = now
            for room, last in await database_sync_to_async(newest)(list(self.rooms)):
                if (found := self.rooms.get(room)) and found.last < last:
                    await self.look_for_missed(room, found)
        if now - self.renewed_at >= RENEW:
            self.renewed_at = now
            await database_sync_to_async(presence.renew)(
                [
                    (place.room_id, socket.user_id, socket.name)
                    for socket in self.sockets
                    for place in socket.places.values()
                ]
            )
            # Those of processes that died are not announced.
            for local in self.rooms.values():
                local.changed = True
        due = [socket for socket in self.sockets if now - socket.checked_at >= CHECK]
        await self.check(due[:CHECKS])

    async def close(self, room: str) -> None:
        """Leave the layer's group of a room that has no sockets here any more."""
        del self.rooms[room]
        if self.channel:
            with suppress(OSError, RedisError):
                await self.layer.group_discard(posting.group_of(room), self.channel)

    async def show_people(self, room: str, local: LocalRoom) -> None:
        """Offer the list of who is in a room."""
        names, count = await database_sync_to_async(presence.people)(room)
        frame = encode("people", room=room, names=names, count=count)
        for socket in local.sockets:
            socket.offer_people(room, frame)

    async def check(self, sockets: list[Socket]) -> None:
        """Close those sockets whose session has ended."""
        for key in {socket.session_key for socket in sockets}:
            user_id = await database_sync_to_async(sessions.user_of)(key)
            for socket in sockets:
                if socket.session_key == key:
                    socket.checked_at = self.loop.time()
                    if socket.user_id != user_id:
                        socket.close(SESSION_ENDED)


def open_place(socket: Socket, room: str, after: int | None) -> tuple[Place, int]:
    """Return a socket's new place in a room, and the newest message of the room."""
    row, _ = Room.objects.get_or_create(name=room)
    presence.renew([(row.pk, socket.user_id, socket.name)])
    start = posting.start_of_history(room) if after is None else min(after, row.last_id)
    return Place(row.pk, start), row.last_id


def newest(rooms: list[str]) -> list[tuple[str, int]]:
    """Return the newest message of each of these rooms."""
    return list(Room.objects.filter(name__in=rooms).values_list("name", "last_id"))


_hub: Hub | None = None


def hub() -> Hub:
    """Return the hub of this process: of its event loop, of which tests have several."""
    global _hub
    if _hub is None or _hub.loop is not asyncio.get_running_loop():
        _hub = Hub()
    return _hub
