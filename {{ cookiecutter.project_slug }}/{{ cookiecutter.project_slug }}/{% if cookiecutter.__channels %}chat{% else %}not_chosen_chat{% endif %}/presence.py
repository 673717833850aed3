"""Who is in which room now: a row for each socket, which its process renews.

A process that dies leaves its rows behind. They count for LASTS seconds only.
"""

from collections.abc import Iterable
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from .models import Presence

# Seconds for which a row counts. Its process renews it three times in them (hub.py).
LASTS = 45
# Names in a list of people; how many there are is told beside it.
NAMES = 100

# A socket in a room: the ids of room and user, and the socket's name.
type Seat = tuple[int, int, str]


def here() -> QuerySet[Presence]:
    """Return the rows that count."""
    return Presence.objects.filter(seen_at__gt=timezone.now() - timedelta(seconds=LASTS))


def renew(seats: Iterable[Seat]) -> None:
    """Write that these sockets are in these rooms, and remove what counts no more."""
    now = timezone.now()
    Presence.objects.bulk_create(
        [
            Presence(room_id=room, user_id=user, socket=socket, seen_at=now)
            for room, user, socket in seats
        ],
        update_conflicts=True,
        unique_fields=["room", "socket"],
        update_fields=["seen_at"],
    )
    Presence.objects.filter(seen_at__lt=now - timedelta(seconds=2 * LASTS)).delete()


def leave(socket: str, room: str | None = None) -> None:
    """Write that a socket has left a room, or all of them."""
    rows = Presence.objects.filter(socket=socket)
    (rows.filter(room__name=room) if room else rows).delete()


def sockets_of(user_id: int) -> int:
    """Return how many sockets a person has open, in all processes."""
    return here().filter(user_id=user_id).values("socket").distinct().count()


def people(room: str) -> tuple[list[str], int]:
    """Return the first NAMES people in a room, in the order of the alphabet, and the number
    of all."""
    names = here().filter(room__name=room).order_by("user__username")
    distinct = names.values_list("user__username", flat=True).distinct()
    return list(distinct[:NAMES]), distinct.count()
