# The template updates this file: see serving/README.md.
"""Hints: the processes of a site notify each other that something is new.

A hint goes to the hubs of this process, and through Redis to those of other processes. It
does not contain what is new. A hint may be lost, because each hub also polls the database
every few seconds. Without REDIS_URL, hints stay in their process.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from functools import cache, partial
from typing import NamedTuple

import structlog
from django.conf import settings
from django.db import transaction
from redis import Redis
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from serving import outages

logger = structlog.get_logger(__name__)

CHANNEL = f"{settings.REDIS_PREFIX}.live"
# Seconds to connect to Redis, and seconds to publish a hint.
PUBLISH_TIMEOUT = 0.5
# Seconds until this process retries after an error of Redis.
BACKOFF = 5
retry_at = 0.0


class Hint(NamedTuple):
    """Kind "news": a topic may have new rows, up to the id `newest`. Kind "session": one of
    the sessions of the user whose id is `topic` may have ended. A site can add kinds."""

    kind: str
    topic: str
    newest: int = 0


# The receivers of hints in this process. They must be safe to call from any thread.
handlers: list[Callable[[Hint], None]] = []


@cache
def publisher() -> Redis:
    """Return the Redis client that publishes hints."""
    return Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=PUBLISH_TIMEOUT,
        socket_timeout=PUBLISH_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )


def publish(hint: Hint) -> None:
    """Send a hint to all processes, from any thread. Without Redis only to this one."""
    global retry_at
    for handle in handlers:
        handle(hint)
    if not settings.REDIS_URL or time.monotonic() < retry_at:
        return
    try:
        publisher().publish(CHANNEL, json.dumps(hint))
        outages.redis.works()
    except (OSError, RedisError) as error:
        retry_at = time.monotonic() + BACKOFF
        outages.report("hint not published", error)


async def apublish(hint: Hint) -> None:
    """Do the same as publish(), for async code."""
    await asyncio.to_thread(publish, hint)


def publish_on_commit(hint: Hint) -> None:
    """Publish a hint when the current transaction commits."""
    # robust: an error here must not look like a failed commit.
    transaction.on_commit(partial(publish, hint), robust=True)


async def subscribe() -> AsyncGenerator[Hint | None]:
    """Yield None when this process is subscribed, then each hint from Redis.

    Raises RedisError or OSError when the connection ends.
    """
    client = aioredis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=2,
        # There may be no hint for hours.
        socket_timeout=None,
        retry=AsyncRetry(NoBackoff(), 0),
    )
    async with client, client.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        async for message in pubsub.listen():
            if message["type"] == "subscribe":
                yield None
            elif message["type"] == "message" and (hint := parse(message["data"])):
                yield hint


def parse(data: bytes) -> Hint | None:
    """Return the hint in a message, or None if it is not valid."""
    try:
        match json.loads(data):
            case [str(kind), str(topic), int(newest)]:
                return Hint(kind, topic, newest)
    except (ValueError, RecursionError):
        pass
    logger.warning("hint not understood", data=repr(data[:100]))
    return None
