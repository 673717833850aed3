import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import Error

from serving import outages
from serving.live.hints import apublish

from . import limits, posting
from .frames import (
    TOO_MANY_SOCKETS,
    Frame,
    FrameError,
    encode,
    encode_message,
    is_room_name,
    parse,
    parse_after,
)
from .hub import Hub
from .sockets import Socket

logger = structlog.get_logger(__name__)


class ChatConsumer(AsyncWebsocketConsumer):
    """The socket of one browser. serving/sockets.py has checked its origin.

    It uses no channel layer: the hub of this process delivers to all its sockets.
    """

    # get_channel_layer(None) is None, and then Channels makes no channel for the socket.
    channel_layer_alias = None

    hub: Hub
    # None if the handshake was refused, and after the socket was closed.
    socket: Socket | None = None
    writer: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one socket, and always clean up after it.

        disconnect() is not enough: Channels does not call it if the browser goes away
        while a frame is being sent to it.
        """
        try:
            with suppress(OSError):
                await super().__call__(scope, receive, send)
        finally:
            await self.clean_up()

    async def connect(self) -> None:
        self.user = self.scope["user"]
        self.room = self.scope["url_route"]["kwargs"]["room"]
        if not is_room_name(self.room) or not limits.may_enter(self.user, self.room):
            # Before accept(), this refuses the handshake with 403.
            reason = "not this user" if self.user.is_authenticated else "not logged in"
            structlog.contextvars.bind_contextvars(refused=reason)
            await self.close()
            return
        await self.accept()
        self.frames: deque[float] = deque(maxlen=limits.FRAMES_PER_SECOND)
        self.hub = Hub.here()
        key = self.scope["session"].session_key
        self.socket = Socket(self.hub.read_together, self.user.pk, key)
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        after = parse_after(query.get("after", [""])[-1])
        try:
            await self.hub.enter(self.socket, self.room, after)
        except FrameError as error:
            await self.reply("error", text=str(error), limit=error.limit)
            await self.close(TOO_MANY_SOCKETS, error.limit)
            return
        except Error as error:
            outages.report("chat not entered", error, room=self.room)
            await self.close(1011)
            return
        self.writer = asyncio.create_task(self.write(self.socket))
        logger.info("chat entered", room=self.room, user_id=self.user.pk)

    async def disconnect(self, code: int) -> None:
        if self.writer:
            logger.info("chat left", room=self.room, user_id=self.user.pk, code=code)

    async def clean_up(self) -> None:
        """Remove this socket from the hub."""
        if self.writer:
            self.writer.cancel()
        if self.socket:
            socket, self.socket = self.socket, None
            await self.hub.depart(socket)

    async def write(self, socket: Socket) -> None:
        """Send the hub's frames, until the browser is gone or the session has ended."""
        code = 1011
        try:
            while (frame := await socket.next_frame()) is not None:
                await self.send(text_data=frame)
            code = socket.closing
        except OSError:
            # The browser is gone. Channels closes the socket.
            return
        except Exception:
            logger.exception("chat not written", room=self.room)
        # The socket may be closed already.
        with suppress(OSError, RuntimeError):
            await self.close(code)

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None
    ) -> None:
        """Handle a frame, or reply with an error."""
        if not self.socket or self.socket.closing:
            return
        frame = Frame("unfit")
        try:
            self.count_frame()
            frame = parse(text_data, self.room)
            await self.do(self.socket, frame)
        except FrameError as error:
            details = {"limit": error.limit, "key": error.key or frame.key}
            given = {name: value for name, value in details.items() if value}
            await self.reply("error", text=str(error), **given)
        except Error as error:
            outages.report("chat frame not done", error, type=frame.type, room=frame.room)
            await self.reply("error", text="That did not work.", key=frame.key, again=True)

    def count_frame(self) -> None:
        """Raise FrameError if this socket has sent too many frames this second."""
        now = time.monotonic()
        if len(self.frames) == self.frames.maxlen and now - self.frames[0] < 1:
            raise FrameError(
                f"A socket can send {limits.FRAMES_PER_SECOND} frames a second.",
                "frames per second",
            )
        self.frames.append(now)

    async def do(self, socket: Socket, frame: Frame) -> None:
        """Handle a frame. Raises FrameError if that breaks a limit."""
        match frame.type:
            case "message":
                if frame.room not in socket.places:
                    raise FrameError("Enter a room before you send messages to it.")
                message, previous = await database_sync_to_async(posting.store)(
                    frame.room, self.user, frame.text, frame.key, limited=True
                )
                if previous is not None:
                    # The sockets of this process need neither a hint nor a query.
                    shown = encode_message(message, frame.room)
                    self.hub.broadcast(frame.room, previous, message.pk, shown)
                await self.reply("stored", key=frame.key, id=message.pk)
                if previous is not None:
                    await apublish(posting.hint_of(frame.room, message))
            case "enter":
                if not limits.may_enter(self.user, frame.room):
                    raise FrameError("You may not enter that room.")
                known = frame.room in socket.places
                if not known and len(socket.places) >= limits.ROOMS_PER_SOCKET:
                    raise FrameError(
                        f"One socket can be in {limits.ROOMS_PER_SOCKET} rooms at most.",
                        "rooms per socket",
                    )
                await self.hub.enter(socket, frame.room, frame.after)
            case "leave":
                if frame.room == self.room:
                    raise FrameError("To leave the room of its own path, close the socket.")
                if frame.room in socket.places:
                    await self.hub.leave(socket, frame.room)
            case "ping":
                await self.reply("pong")

    async def reply(self, type_: str, **fields: Any) -> None:
        """Send this browser a frame, if it is still connected."""
        with suppress(OSError):
            await self.send(text_data=encode(type_, **fields))
