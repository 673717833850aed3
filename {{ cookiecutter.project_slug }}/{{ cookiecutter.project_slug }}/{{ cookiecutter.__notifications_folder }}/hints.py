"""What processes tell each other through Redis: whose notifications to look at.

Nothing is lost with a hint: the streams find what it was about in the database, seconds
later. Without REDIS_URL there are none.
"""

import json
import time
from collections.abc import AsyncGenerator
from functools import cache

import structlog
from django.conf import settings
from redis import Redis
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from config import environment

logger = structlog.get_logger(__name__)

CHANNEL = f"{settings.REDIS_PREFIX}.notifications"
# Seconds for which nobody here asks a Redis that failed.
REST = 5
resting_until = 0.0


@cache
def publisher() -> Redis:
    """Return the client of this process, which waits half a second, twice at most."""
    return Redis.from_url(
        environment.REDIS_URL,
        socket_connect_timeout=0.5,
        socket_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )


def publish(user_id: int, newest: int) -> None:
    """Tell all processes the id of a person's newest notification, if Redis is there."""
    global resting_until
    if not environment.REDIS_URL or time.monotonic() < resting_until:
        return
    try:
        publisher().publish(CHANNEL, json.dumps([user_id, newest]))
    except (OSError, RedisError) as error:
        resting_until = time.monotonic() + REST
        logger.warning("hint not published", error=repr(error))


async def subscribe() -> AsyncGenerator[tuple[int, int] | None]:
    """Yield None once this process is subscribed, then each hint: user id and newest id.

    Raises RedisError or OSError when the connection ends. What is no hint is passed over.
    """
    client = aioredis.Redis.from_url(
        environment.REDIS_URL,
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


def parse(data: bytes) -> tuple[int, int] | None:
    """Return the user id and the newest id of a hint, None for what is no hint."""
    try:
        match json.loads(data):
            case [int(user_id), int(newest)]:
                return user_id, newest
    except (ValueError, RecursionError):
        pass
    logger.warning("hint not understood", data=repr(data[:100]))
    return None
