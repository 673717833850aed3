"""Storing messages, and telling everybody of them.

The database is what counts. What is sent through the channel layer only says that there is
something new: a layer forgets, and each process looks for itself as well (hub.py).
"""

import asyncio
import secrets
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import IntegrityError, transaction
from django.utils import timezone
from redis.exceptions import RedisError

from {{ cookiecutter.project_slug }}.users.models import User

from . import limits
from .frames import FrameError, clean_text, encode_message, is_room_name
from .models import Message, Room

logger = structlog.get_logger(__name__)

type Event = dict[str, Any]

# Seconds for the channel layer to take an event.
PATIENCE = 1


def group_of(room: str) -> str:
    """Return the name of the channel layer's group for a room."""
    return f"chat.{room}"


def publish(room: str, author: User, text: str) -> Message:
    """Say something in a room, from synchronous code: a view, a command, a thread.

    Everybody hears of it once the transaction around it is committed, and nobody if it is
    rolled back. Raises ValueError with a sentence if the text or the room will not do.
    """
    if not is_room_name(room):
        raise ValueError(f"{room!r} is no name of a room.")
    try:
        text = clean_text(text)
    except FrameError as error:
        raise ValueError(str(error)) from None
    message, event = store(room, author, text, secrets.token_hex(16))
    if event:
        transaction.on_commit(lambda: async_to_sync(tell)(group_of(room), event))
    return message


def store(
    room_name: str, author: User, text: str, key: str, *, limited: bool = False
) -> tuple[Message, Event | None]:
    """Store a message; return it and the event that tells of it, None if it was there.

    Raises FrameError if it is `limited` and its author has said too much this second.
    """
    try:
        with transaction.atomic():
            # Held until the commit. PostgreSQL would otherwise show message 8 before 7 if
            # that takes longer, and whoever has 8 never asks for 7.
            room, _ = Room.objects.select_for_update().get_or_create(name=room_name)
            if known := sent_before(author, key):
                return known, None
            if limited:
                check_rate(author)
            message = Message.objects.create(room=room, author=author, text=text, key=key)
            previous, room.last_id = room.last_id, message.pk
            room.save(update_fields=["last_id"])
    except IntegrityError:
        # The same key in two rooms at once.
        if known := sent_before(author, key):
            return known, None
        raise
    return message, {
        "type": "chat.message",
        "room": room_name,
        "id": message.pk,
        "previous": previous,
        "frame": encode_message(message, room_name),
    }


def sent_before(author: User, key: str) -> Message | None:
    """Return the message that `author` has sent under this key."""
    return Message.objects.filter(author=author, key=key).first()


def check_rate(author: User) -> None:
    """Raise FrameError if `author` has said too much this second."""
    newest = Message.objects.filter(author=author).order_by("-pk")
    times = list(newest.values_list("sent_at", flat=True)[: limits.MESSAGES_PER_SECOND])
    full = len(times) == limits.MESSAGES_PER_SECOND
    if full and times[-1] > timezone.now() - timedelta(seconds=1):
        raise FrameError(
            f"You can send {limits.MESSAGES_PER_SECOND} messages a second.",
            "messages per second",
        )


async def tell(group: str, event: Event) -> None:
    """Send an event to all processes that are in a group of the channel layer.

    If Redis is away they find it out from the database, a little later.
    """
    for attempt in (1, 2):
        try:
            async with asyncio.timeout(PATIENCE):
                await get_channel_layer().group_send(group, event)
            return
        except (OSError, RedisError) as error:
            # One that was restarted answers the second time.
            if attempt == 2:
                logger.warning("channel layer is away", group=group, error=str(error))


def missed(room: str, after: int, most: int) -> list[tuple[int, str]]:
    """Return ids and frames of the messages after one, oldest first, `most` of them."""
    messages: Iterable[Message] = (
        Message.objects.filter(room__name=room, pk__gt=after)
        .select_related("author")
        .order_by("pk")[:most]
    )
    return [(message.pk, encode_message(message, room)) for message in messages]


def start_of_history(room: str) -> int:
    """Return the id after which the room's newest HISTORY messages come."""
    newest = Message.objects.filter(room__name=room).order_by("-pk")
    ids = list(newest.values_list("pk", flat=True)[: limits.HISTORY + 1])
    return ids[-1] if len(ids) > limits.HISTORY else 0
