import asyncio
from typing import Any
from urllib.parse import parse_qs

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError

from . import limits, posting, presence
from .frames import (
    TOO_MANY_SOCKETS,
    Frame,
    FrameError,
    encode,
    is_room_name,
    parse,
    parse_after,
)
from .hub import Hub, hub
from .sockets import Socket

logger = structlog.get_logger(__name__)


class ChatConsumer(AsyncWebsocketConsumer):
    """One browser in the chat. config/routing.py has looked at its origin.

    It has no channel of its own: the hub of this process hears for all of its sockets.
    """

    channel_layer_alias = None

    # None for a handshake that was refused, whose end disconnect() sees as well.
    socket: Socket | None = None
    writer: asyncio.Task[None] | None = None
    hub: Hub

    async def connect(self) -> None:
        self.user = self.scope["user"]
        self.room = self.scope["url_route"]["kwargs"]["room"]
        if not self.user.is_authenticated or not is_room_name(self.room):
            # Before accept() this refuses the handshake with 403.
            await self.close()
            return
        await self.accept()
        self.hub = hub()
        key = self.scope["session"].session_key
        self.socket = Socket(self.user.pk, key, self.send)
        self.hub.add(self.socket)
        self.writer = asyncio.create_task(self.write(self.socket))
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        try:
            if await database_sync_to_async(self.too_many)():
                await self.refuse_socket()
                return
            after = parse_after(query.get("after", [""])[-1])
            await self.hub.enter(self.socket, self.room, after)
            logger.info("chat entered", room=self.room, user_id=self.user.pk)
        except DatabaseError:
            logger.exception("chat not entered", room=self.room)
            await self.close(1011)

    def too_many(self) -> bool:
        """Return whether this person has as many sockets open as one may."""
        return presence.sockets_of(self.user.pk) >= limits.SOCKETS_PER_USER

    async def refuse_socket(self) -> None:
        """Say why, and close it."""
        text = f"You can have {limits.SOCKETS_PER_USER} chats open at once: close one."
        await self.reply("error", text=text, limit="sockets per user")
        await self.close(TOO_MANY_SOCKETS, "sockets per user")

    async def disconnect(self, code: int) -> None:
        if self.socket:
            if self.writer:
                self.writer.cancel()
            await self.hub.remove(self.socket)
            logger.info("chat left", room=self.room, user_id=self.user.pk, code=code)

    async def write(self, socket: Socket) -> None:
        """Send what the hub offers, until the browser is gone or the session has ended."""
        try:
            code = await socket.write()
            await self.close(code)
        except OSError:
            # The browser is gone; disconnect() follows.
            pass

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None
    ) -> None:
        """Do what a frame asks for, or answer why not."""
        if not self.socket or self.socket.closing:
            return
        frame = Frame("unfit")
        try:
            frame = parse(text_data, self.room)
            await self.do(self.socket, frame)
        except FrameError as error:
            details = {"limit": error.limit, "key": error.key or frame.key}
            given = {name: value for name, value in details.items() if value}
            await self.reply("error", text=str(error), **given)
        except DatabaseError:
            logger.exception("chat frame not done", type=frame.type, room=frame.room)
            await self.reply("error", text="That did not work.", key=frame.key, again=True)

    async def do(self, socket: Socket, frame: Frame) -> None:
        """Do what a frame asks for. Raises FrameError if that breaks a limit."""
        match frame.type:
            case "message":
                if frame.room not in socket.places:
                    raise FrameError("Enter a room before you speak in it.")
                message, event = await database_sync_to_async(posting.store)(
                    frame.room, self.user, frame.text, frame.key, limited=True
                )
                await self.reply("stored", key=frame.key, id=message.pk)
                if event:
                    # Here it needs no channel layer.
                    await self.hub.hear(event)
                    await posting.tell(posting.group_of(frame.room), event)
            case "enter":
                known = frame.room in socket.places
                if not known and len(socket.places) >= limits.ROOMS_PER_SOCKET:
                    raise FrameError(
                        f"One socket hears {limits.ROOMS_PER_SOCKET} rooms at most.",
                        "rooms per socket",
                    )
                await self.hub.enter(socket, frame.room, frame.after)
            case "leave":
                if frame.room == self.room:
                    raise FrameError("Close the socket to leave the room of its path.")
                if frame.room in socket.places:
                    await self.hub.leave(socket, frame.room)
            case "ping":
                await self.reply("pong")

    async def reply(self, type_: str, **fields: Any) -> None:
        """Send this browser a frame."""
        await self.send(text_data=encode(type_, **fields))
