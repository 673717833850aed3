import json
from typing import Any

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError
from redis.exceptions import RedisError

from .models import Message

logger = structlog.get_logger(__name__)


class FrameError(Exception):
    """A frame that makes no message; its text is for the person who sent it."""


def parse(text: str | None) -> str:
    """Return the message in a frame of the form {"type": "message", "text": "…"}.

    Raises FrameError for anything else: a browser is only one of the things that can be at
    the other end.
    """
    if text is None:
        raise FrameError("This room takes text frames only.")
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        raise FrameError("That frame is not JSON.") from None
    if not isinstance(frame, dict) or frame.get("type") != "message":
        raise FrameError('A frame is an object with "type": "message".')
    message = frame.get("text")
    if not isinstance(message, str):
        raise FrameError('A message has a "text", which is a string.')
    message = message.strip()
    if not message:
        raise FrameError("That message is empty.")
    if len(message) > Message.MAX_LENGTH:
        raise FrameError(f"A message has {Message.MAX_LENGTH} characters at most.")
    # JSON can spell both; PostgreSQL cannot store the one, nor UTF-8 the other.
    if "\0" in message or any("\ud800" <= character <= "\udfff" for character in message):
        raise FrameError("That message has a character that cannot be stored.")
    return message


def encode(event: dict[str, object]) -> str:
    """Return the frame of an event."""
    return json.dumps(event, ensure_ascii=False)


class ChatConsumer(AsyncWebsocketConsumer):
    """One browser in one room. config/routing.py has looked at its origin."""

    # Empty for a handshake that was refused, whose end disconnect() sees as well.
    group = ""

    async def connect(self) -> None:
        self.user = self.scope["user"]
        self.room = self.scope["url_route"]["kwargs"]["room"]
        too_long = len(self.room) > Message.ROOM_MAX_LENGTH
        if not self.user.is_authenticated or too_long:
            # Before accept() this refuses the handshake with 403.
            await self.close()
            return
        self.group = f"chat.{self.room}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        logger.info("chat entered", room=self.room, user_id=self.user.pk)

    async def disconnect(self, code: int) -> None:
        if self.group:
            await self.channel_layer.group_discard(self.group, self.channel_name)
            logger.info("chat left", room=self.room, user_id=self.user.pk, code=code)

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None
    ) -> None:
        """Store a message, then tell everybody in the room, this browser as well."""
        try:
            text = parse(text_data)
        except FrameError as error:
            await self.reply({"type": "error", "text": str(error)})
            return
        try:
            event = await self.store(text)
        except DatabaseError:
            logger.exception("chat message not stored", room=self.room)
            await self.reply({"type": "error", "text": "That message was not stored."})
            return
        try:
            await self.broadcast({"type": "chat.message", "frame": encode(event)})
        except (OSError, RedisError):
            logger.exception("chat message not passed on", room=self.room)
            await self.reply({"type": "error", "text": "Stored, but not passed on."})

    async def broadcast(self, message: dict[str, Any]) -> None:
        """Send to the room's group. A Redis that was restarted answers the second time."""
        try:
            await self.channel_layer.group_send(self.group, message)
        except (OSError, RedisError):
            await self.channel_layer.group_send(self.group, message)

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Pass on what was sent to the room's group, by this process or another."""
        # Channels goes to a thread before each handler, to look after connections to the
        # database: once for every browser in the room. This one needs none.
        if message["type"] == "chat.message":
            await self.send(text_data=message["frame"])
        else:
            await super().dispatch(message)

    async def reply(self, event: dict[str, object]) -> None:
        """Send this browser a frame."""
        await self.send(text_data=encode(event))

    @database_sync_to_async
    def store(self, text: str) -> dict[str, object]:
        """Store a message and return the event that tells of it."""
        message = Message(room=self.room, author=self.user, text=text)
        message.save()
        return message.as_event()
