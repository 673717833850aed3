"""A stream of server-sent events: the notifications of one user.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import random
from collections.abc import AsyncIterator

from django.db import Error

from serving import outages
from serving.live.subscribers import Subscriber
from serving.request_thread import release_thread

from .hub import Hub

# Seconds. Proxies close idle streams, and a failed write detects a client that is gone.
# HEARTBEAT_TIMEOUT in notifications.js is 40.
HEARTBEAT_INTERVAL = 15.0
# An event, because scripts do not see comments.
HEARTBEAT = ": still here\nevent: heartbeat\ndata: {}\n\n"


async def stream(
    session_key: str | None, user_id: int, after: int | None
) -> AsyncIterator[str]:
    """Yield the events of a user: those after the id `after`, or new ones only.

    It ends when the session ends, when this process stops, or when the database fails at
    the start. The browser then reconnects, with the id of the last event that it had.
    """
    release_thread()
    hub = Hub.here()
    subscriber = Subscriber(hub.read_together, user_id, session_key)
    hub.add(subscriber)
    try:
        beginning = hub.begin_after(user_id, after)
        start = await hub.subscribe(subscriber, str(user_id), beginning)
        # Jitter, so that browsers do not all reconnect at once. The id is for a browser
        # that reconnects before it got an event.
        retry = random.randrange(1000, 3000)  # noqa: S311
        yield f"retry: {retry}\nid: {start}\n\n"
        while not subscriber.closing:
            beat = hub.loop.time() + HEARTBEAT_INTERVAL
            while (frame := await subscriber.next_frame(until=beat)) is not None:
                yield frame
            if not subscriber.closing:
                yield HEARTBEAT
    except Error as error:
        outages.report("stream ended", error)
    finally:
        hub.remove(subscriber)
