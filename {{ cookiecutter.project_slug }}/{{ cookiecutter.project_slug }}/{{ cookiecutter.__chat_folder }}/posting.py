"""Storing messages, and reading them."""

import secrets
from collections.abc import Iterable
from datetime import timedelta

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from serving.live.hints import Hint, publish_on_commit
from {{ cookiecutter.project_slug }}.users.models import User

from . import limits
from .frames import FrameError, clean_text, encode_message, is_room_name
from .models import Message, Room


def publish(room: str, author: User, text: str) -> Message:
    """Say something in a room, from synchronous code: a view, a command, a thread.

    Everybody hears of it once the transaction around it is committed, and nobody if it is
    rolled back. Until then others wait who speak in this room, so keep that transaction
    short, and in one that speaks in several rooms do so in the order of their names, or two
    of them wait for each other. Raises ValueError if the text or the room will not do.
    """
    if not is_room_name(room):
        raise ValueError(f"{room!r} is no name of a room.")
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
    """Store a message; return it and the id of the one before it in its room, which is 0 if
    there is none, and None if this message was there already.

    Raises FrameError if it is `limited` and its author has said too much this second, and
    DatabaseError if somebody else holds the room for long.
    """
    try:
        with transaction.atomic():
            if limited:
                prepare_limits(author)
            # Held until the commit. PostgreSQL would otherwise show message 8 before 7 if
            # that takes longer, and whoever has 8 never asks for 7.
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
        # The same key in two rooms at once.
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
    """Count what `author` says in one process after the other, and wait for none for long:
    all sockets of a process share the thread that would wait."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1s'")
    list(User.objects.select_for_update(no_key=True).filter(pk=author.pk).values("pk"))


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


def missed(room: str, after: int, limit: int) -> list[tuple[int, str]]:
    """Return ids and frames of the first `limit` messages after one, in their order."""
    messages: Iterable[Message] = (
        Message.objects.filter(room__name=room, pk__gt=after)
        .select_related("author")
        .order_by("pk")[:limit]
    )
    return [(message.pk, encode_message(message, room)) for message in messages]


def newest(rooms: Iterable[str]) -> dict[str, int]:
    """Return the id of the newest message of each of these rooms, those that have one."""
    return dict(Room.objects.filter(name__in=rooms).values_list("name", "last_id"))


def start_of_history(room: str) -> int:
    """Return the id after which the room's newest HISTORY messages come."""
    newest = Message.objects.filter(room__name=room).order_by("-pk")
    ids = list(newest.values_list("pk", flat=True)[: limits.HISTORY + 1])
    return ids[-1] if len(ids) > limits.HISTORY else 0
