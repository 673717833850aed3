"""A stream of server-sent events: the notifications of one user, as they come.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import random
from collections.abc import AsyncIterator

import structlog
from django.db import Error

from serving.live.subscribers import Subscriber
from serving.request_thread import release_thread

from .hub import Hub

logger = structlog.get_logger(__name__)

# Seconds. It keeps proxies from closing an idle stream, and finds clients that are gone
# without a word. notifications.js waits for 40.
HEARTBEAT = 15.0
# A comment for proxies, an event for scripts, who see no comments.
BEAT = ": still here\nevent: heartbeat\ndata: {}\n\n"


async def stream(
    session_key: str | None, user_id: int, after: int | None
) -> AsyncIterator[str]:
    """Yield the events of a user: those after the id `after`, or else from now on.

    It ends when the session does, when this process stops, and when the database fails as
    it begins. A browser then opens another, with the id of the last event that it had.
    """
    # What it calls from here on needs no thread of its own.
    release_thread()
    hub = Hub.here()
    subscriber = Subscriber(hub.read_together, user_id, session_key)
    hub.add(subscriber)
    try:
        beginning = hub.begin_after(user_id, after)
        start = await hub.subscribe(subscriber, str(user_id), beginning)
        # Browsers do not all come back at once. The id is that of no event: a browser that
        # has had none says it when it comes back.
        retry = random.randrange(1000, 3000)  # noqa: S311
        yield f"retry: {retry}\nid: {start}\n\n"
        while not subscriber.closing:
            beat = hub.loop.time() + HEARTBEAT
            while (frame := await subscriber.next_frame(until=beat)) is not None:
                yield frame
            if not subscriber.closing:
                yield BEAT
    except Error as error:
        logger.error("stream ended", error=repr(error))
    finally:
        hub.remove(subscriber)
