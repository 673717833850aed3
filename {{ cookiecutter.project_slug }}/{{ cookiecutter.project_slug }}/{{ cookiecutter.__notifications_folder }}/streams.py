"""A stream of server-sent events: the notifications of one user, as they come.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import structlog
from django.db import Error

from serving.request_thread import release_thread
from {{ cookiecutter.project_slug }}.users.batches import Batch
from {{ cookiecutter.project_slug }}.users.sessions import find_user

from . import hub
from .models import Notification

logger = structlog.get_logger(__name__)

# Seconds. It keeps proxies from closing an idle stream, finds clients that are gone without
# a word, and ends a stream whose session has ended. notifications.js waits for 40.
HEARTBEAT = 15.0
# A comment for proxies, an event for scripts, who see no comments.
BEAT = ": still here\nevent: heartbeat\ndata: {}\n\n"
# Notifications read at once: what a stream has in memory, however far behind it is.
CHUNK = 50


async def stream(
    session_key: str | None, user_id: int, after: int | None
) -> AsyncIterator[str]:
    """Yield the events of a user: those after the id `after`, or else from now on.

    It ends when the session does, when this process stops, and when the database fails. A
    browser then opens another, with the id of the last event that it had.
    """
    # What it calls from here on needs no thread of its own.
    release_thread()
    here = hub.here()
    # First counted in, then reading: what is sent in between wakes it.
    with here.listening(user_id) as listener:
        try:
            newest = await newest_id(user_id)
            # An id from before the database was restored may be one that is still to come.
            listener.last = newest if after is None else min(after, newest)
            # Who has missed nothing needs no query; whatever came meanwhile is a hint.
            if listener.last < newest:
                listener.news.set()
            # Browsers do not all come back at once. The id is that of no event: a browser
            # that has had none says it when it comes back.
            retry = random.randrange(1000, 3000)  # noqa: S311
            yield f"retry: {retry}\nid: {listener.last}\n\n"
            beat = here.loop.time() + HEARTBEAT
            while not here.stopping:
                if listener.news.is_set():
                    listener.news.clear()
                    chunk = await read(user_id, listener.last)
                    if chunk:
                        listener.last = chunk[-1].pk
                        yield "".join(notification.as_event() for notification in chunk)
                    if len(chunk) == CHUNK:
                        listener.news.set()
                if here.loop.time() >= beat:
                    if not await is_open(session_key, user_id):
                        return
                    yield BEAT
                    beat = here.loop.time() + HEARTBEAT
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(beat):
                        await listener.news.wait()
        except Error as error:
            logger.error("stream ended", error=repr(error))


def newest_of(users: list[int]) -> list[int]:
    """Return the id of each user's newest notification, 0 where there is none."""
    found = dict(hub.newest_ids(users))
    return [found.get(user, 0) for user in users]


# Browsers come together, when a server restarts.
find_newest = Batch(newest_of)


async def newest_id(user_id: int) -> int:
    """Return the id of a user's newest notification, 0 if there is none."""
    return await find_newest(user_id)


async def read(user_id: int, after: int) -> list[Notification]:
    """Return a user's first notifications after an id, in their order."""
    later = Notification.objects.filter(user=user_id, pk__gt=after).order_by("pk")
    return [notification async for notification in later[:CHUNK]]


async def is_open(session_key: str | None, user_id: int) -> bool:
    """Return whether a session is still that of a user who may log in."""
    user = await find_user(session_key)
    return user is not None and user.pk == user_id
