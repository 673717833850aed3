"""Who is in which room now: a row for each socket, which its process renews.

A process that dies leaves its rows behind. They count for PRESENCE_TTL seconds only.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta

from django.db import transaction
from django.db.models import Count, QuerySet
from django.utils import timezone

from {{ cookiecutter.project_slug }}.users.models import User

from . import limits
from .models import Presence

# Seconds for which a row counts. Its process renews it three times in them (hub.py).
PRESENCE_TTL = 45
# Names in a list of people; how many there are is sent beside it.
MAX_NAMES = 100

# A socket in a room: the name of the room, the id of its user, its own name.
type Seat = tuple[str, int, str]


def here() -> QuerySet[Presence]:
    """Return the rows that count."""
    oldest = timezone.now() - timedelta(seconds=PRESENCE_TTL)
    return Presence.objects.filter(seen_at__gt=oldest)


def renew(seats: Iterable[Seat]) -> None:
    """Write that these sockets are in these rooms, and remove what counts no more."""
    write(seats)
    long_ago = timezone.now() - timedelta(seconds=2 * PRESENCE_TTL)
    Presence.objects.filter(seen_at__lt=long_ago).delete()


def write(seats: Iterable[Seat]) -> None:
    """Write that these sockets are in these rooms now."""
    now = timezone.now()
    Presence.objects.bulk_create(
        [
            Presence(room=room, user_id=user, socket=socket, seen_at=now)
            for room, user, socket in seats
        ],
        update_conflicts=True,
        unique_fields=["room", "socket"],
        update_fields=["seen_at"],
    )


def enter(seats: list[Seat]) -> list[bool]:
    """Write that sockets are in rooms, but for new ones whose user has too many; return for
    each whether it is.

    Those of one user enter one after the other, whichever process they come to.
    """
    user_ids = {user_id for _, user_id, _ in seats}
    with transaction.atomic():
        users = User.objects.select_for_update(no_key=True).filter(pk__in=user_ids)
        # In this order, or two processes wait for each other.
        list(users.order_by("pk").values("pk"))
        sockets = defaultdict(set)
        rows = here().filter(user__in=user_ids)
        for user_id, socket in rows.values_list("user", "socket"):
            sockets[user_id].add(socket)
        admitted = []
        for _, user_id, socket in seats:
            own = sockets[user_id]
            admitted.append(socket in own or len(own) < limits.SOCKETS_PER_USER)
            own.add(socket)
        write(seat for seat, enters in zip(seats, admitted, strict=True) if enters)
    return admitted


def leave(sockets: Iterable[str], room: str | None = None) -> None:
    """Write that sockets have left a room, or all of them."""
    rows = Presence.objects.filter(socket__in=sockets)
    (rows.filter(room=room) if room else rows).delete()


def people(room: str) -> tuple[list[str], int]:
    """Return the first MAX_NAMES people in a room, by name, and how many there are."""
    names = here().filter(room=room).order_by("user__username")
    distinct = names.values_list("user__username", flat=True).distinct()
    return list(distinct[:MAX_NAMES]), distinct.count()


def counts(rooms: Iterable[str]) -> dict[str, int]:
    """Return how many people are in each of these rooms, those in which somebody is."""
    found = here().filter(room__in=rooms).order_by().values_list("room")
    return dict(found.annotate(Count("user", distinct=True)))
