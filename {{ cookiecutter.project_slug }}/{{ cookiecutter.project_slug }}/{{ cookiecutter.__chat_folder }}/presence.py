"""Who is in which room: a row for each socket, which its process renews.

The rows of a process that died expire after PRESENCE_TTL seconds of the database's clock.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta

from django.db import transaction
from django.db.models import Count, QuerySet
from django.db.models.functions import Now

from {{ cookiecutter.project_slug }}.users.models import User

from . import limits
from .models import Presence

# Seconds until a row expires. Its process renews it three times in this time (hub.py).
PRESENCE_TTL = 45
# Names in a list of people. The total is sent beside it.
MAX_NAMES = 100

# A socket in a room: the names of the room, the id of the user, the name of the socket.
type Seat = tuple[str, int, str]


def current() -> QuerySet[Presence]:
    """Return the rows that have not expired."""
    return Presence.objects.filter(seen_at__gt=Now() - timedelta(seconds=PRESENCE_TTL))


def renew(seats: Iterable[Seat]) -> None:
    """Store that these sockets are in these rooms now, and delete expired rows."""
    write(seats)
    long_ago = Now() - timedelta(seconds=2 * PRESENCE_TTL)
    Presence.objects.filter(seen_at__lt=long_ago).delete()


def write(seats: Iterable[Seat]) -> None:
    """Store that these sockets are in these rooms now."""
    Presence.objects.bulk_create(
        [
            Presence(room=room, user_id=user, socket=socket, seen_at=Now())
            for room, user, socket in seats
        ],
        update_conflicts=True,
        unique_fields=["room", "socket"],
        update_fields=["seen_at"],
    )


def enter(seats: list[Seat]) -> list[bool]:
    """Store that sockets are in rooms; return for each whether it was admitted. New sockets
    are not, if their user has too many already.

    The users are locked, so that all processes together keep the limit.
    """
    user_ids = {user_id for _, user_id, _ in seats}
    with transaction.atomic():
        users = User.objects.select_for_update(no_key=True).filter(pk__in=user_ids)
        # Ordered, to avoid deadlocks.
        list(users.order_by("pk").values("pk"))
        sockets = defaultdict(set)
        rows = current().filter(user__in=user_ids)
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
    """Store that sockets have left a room, or all rooms."""
    rows = Presence.objects.filter(socket__in=sockets)
    (rows.filter(room=room) if room else rows).delete()


def people(room: str) -> tuple[list[str], int]:
    """Return the first MAX_NAMES people in a room, by name, and how many there are."""
    names = current().filter(room=room).order_by("user__username")
    distinct = names.values_list("user__username", flat=True).distinct()
    return list(distinct[:MAX_NAMES]), distinct.count()


def counts(rooms: Iterable[str]) -> dict[str, int]:
    """Return the number of people in each of these rooms that is not empty."""
    found = current().filter(room__in=rooms).order_by().values_list("room")
    return dict(found.annotate(Count("user", distinct=True)))
