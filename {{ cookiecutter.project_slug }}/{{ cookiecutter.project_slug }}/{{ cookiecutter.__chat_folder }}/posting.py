"""Storing messages, and reading them."""

import secrets
from collections.abc import Iterable
from datetime import timedelta

from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from serving.live.hints import Hint, publish_on_commit
from {{ cookiecutter.project_slug }}.users.models import User

from . import limits
from .frames import FrameError, clean_text, encode_message, is_room_name
from .models import Message, Room


def publish(room: str, author: User, text: str) -> Message:
    """Publish a message to a room, from synchronous code: a view, a command, a thread.

    It is delivered when the transaction around it commits, and never if that is rolled
    back. Other messages to this room wait until then, so keep that transaction short. If it
    publishes to several rooms, do that in the order of their names, to avoid deadlocks.
    Raises ValueError if the text or the name of the room is not valid.
    """
    if not is_room_name(room):
        raise ValueError(f"{room!r} is not a valid name of a room.")
    try:
        text = clean_text(text)
    except FrameError as error:
        raise ValueError(str(error)) from None
    message, previous = store(room, author, text, secrets.token_hex(16))
    if previous is not None:
        publish_on_commit(hint_of(room, message))
    return message


def store(
    room_name: str, author: User, text: str, key: str, *, limited: bool = False
) -> tuple[Message, int | None]:
    """Store a message; return it, and the id of the message before it in the room. That id
    is 0 for the first message, and None if this message was stored already.

    Raises FrameError if it is `limited` and its author has sent too much this second, and
    DatabaseError if the room is locked for too long.
    """
    try:
        with transaction.atomic():
            if limited:
                prepare_limits(author)
            # Locked until the commit. Otherwise message 8 can be committed before 7, and a
            # client that has 8 never asks for 7.
            rooms = Room.objects.select_for_update(no_key=True)
            room, _ = rooms.get_or_create(name=room_name)
            if known := sent_before(author, key):
                return known, None
            if limited:
                check_rate(author)
            message = Message.objects.create(room=room, author=author, text=text, key=key)
            previous, room.last_id = room.last_id, message.pk
            room.save(update_fields=["last_id"])
    except IntegrityError:
        # The same key was stored in another room at the same time.
        if known := sent_before(author, key):
            return known, None
        raise
    return message, previous


def hint_of(room: str, message: Message) -> Hint:
    """Return the hint that there is a new message."""
    return Hint("news", room, message.pk)


def sent_before(author: User, key: str) -> Message | None:
    """Return the message that `author` has sent under this key."""
    return Message.objects.filter(author=author, key=key).first()


def prepare_limits(author: User) -> None:
    """Lock the author, so that processes count one after the other. Wait for a short time
    only, because all sockets of this process share the thread that waits."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1s'")
    list(User.objects.select_for_update(no_key=True).filter(pk=author.pk).values("pk"))


def check_rate(author: User) -> None:
    """Raise FrameError if `author` has sent too much this second."""
    newest = Message.objects.filter(author=author).order_by("-pk")
    times = list(newest.values_list("sent_at", Now())[: limits.MESSAGES_PER_SECOND])
    full = len(times) == limits.MESSAGES_PER_SECOND
    if full and timedelta(0) <= times[-1][1] - times[-1][0] < timedelta(seconds=1):
        raise FrameError(
            f"You can send {limits.MESSAGES_PER_SECOND} messages a second.",
            "messages per second",
        )


def missed(room: str, after: int, limit: int) -> list[tuple[int, str]]:
    """Return ids and frames of the first `limit` messages after the id `after`."""
    messages: Iterable[Message] = (
        Message.objects.filter(room__name=room, pk__gt=after)
        .select_related("author")
        .order_by("pk")[:limit]
    )
    return [(message.pk, encode_message(message, room)) for message in messages]


def newest(rooms: Iterable[str]) -> dict[str, int]:
    """Return the newest id of each of these rooms that has messages."""
    return dict(Room.objects.filter(name__in=rooms).values_list("name", "last_id"))


def start_of_history(room: str) -> int:
    """Return the id after which the newest HISTORY messages of a room start."""
    newest = Message.objects.filter(room__name=room).order_by("-pk")
    ids = list(newest.values_list("pk", flat=True)[: limits.HISTORY + 1])
    return ids[-1] if len(ids) > limits.HISTORY else 0
