# The template updates this file: see serving/README.md.
"""Hints: the processes of a site tell each other that there is something new.

A hint goes to the hubs of this process, and through Redis to those of the others. It never
says what is new. Nothing is lost with a hint: each hub also looks into the database every
few seconds. Without REDIS_URL hints stay in their process.
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

logger = structlog.get_logger(__name__)

CHANNEL = f"{settings.REDIS_PREFIX}.live"
# Seconds for Redis to accept a connection, and then to take a hint.
PUBLISH_TIMEOUT = 0.5
# Seconds for which this process does not ask a Redis that failed.
BACKOFF = 5
retry_at = 0.0


class Hint(NamedTuple):
    """What may be new: "news" in a topic, up to the id `newest`, or the end of a "session",
    whose topic is the user's id. A site may have kinds of its own."""

    kind: str
    topic: str
    newest: int = 0


# Those of this process that take hints. They may be called in any thread.
handlers: list[Callable[[Hint], None]] = []


@cache
def publisher() -> Redis:
    """Return the client with which this process publishes."""
    return Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=PUBLISH_TIMEOUT,
        socket_timeout=PUBLISH_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )


def publish(hint: Hint) -> None:
    """Give a hint to all processes, from any thread. Without Redis only to this one."""
    global retry_at
    for handle in handlers:
        handle(hint)
    if not settings.REDIS_URL or time.monotonic() < retry_at:
        return
    try:
        publisher().publish(CHANNEL, json.dumps(hint))
    except (OSError, RedisError) as error:
        retry_at = time.monotonic() + BACKOFF
        logger.warning("hint not published", error=repr(error))


async def apublish(hint: Hint) -> None:
    """Do what publish() does, for async code."""
    await asyncio.to_thread(publish, hint)


def publish_on_commit(hint: Hint) -> None:
    """Publish a hint once the transaction that this is part of is committed."""
    # robust: if it fails, what is committed is committed all the same.
    transaction.on_commit(partial(publish, hint), robust=True)


async def subscribe() -> AsyncGenerator[Hint | None]:
    """Yield None once this process is subscribed, then each hint of another process.

    Raises RedisError or OSError when the connection ends.
    """
    client = aioredis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=2,
        # Silence is no error here.
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
    """Return the hint that others have published, None for anything else."""
    try:
        match json.loads(data):
            case [str(kind), str(topic), int(newest)]:
                return Hint(kind, topic, newest)
    except (ValueError, RecursionError):
        pass
    logger.warning("hint not understood", data=repr(data[:100]))
    return None
