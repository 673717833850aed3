"""The open streams of this process, and what wakes them.

The database is the truth: a stream sends what it finds there beyond the last id that it
sent. All else is a hint that it is time to look, and may be lost. Hints come from notify()
in this process, from other processes through Redis, and from one query every few seconds
that finds whatever the others missed.
"""

import asyncio
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from contextvars import Context
from functools import partial
from itertools import batched
from typing import Any

import structlog
from django.db.models import Max

from config import environment
from serving.request_thread import run_alone
from serving.threads import Overloaded

from . import hints
from .models import Notification

logger = structlog.get_logger(__name__)

# Seconds between two queries for what no hint told of: while Redis carries hints, and
# without it, where other processes have no other way.
PAUSE_WITH_REDIS = 15.0
PAUSE = 2.0


class Listener:
    """A stream: how far it has come, and whether to look for more."""

    def __init__(self) -> None:
        self.last = 0
        self.news = asyncio.Event()


class Hub:
    """The streams of one event loop, by the id of their user."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.listeners: dict[int, set[Listener]] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.subscribed = False
        self.changed = asyncio.Event()
        self.stopping = False

    @contextmanager
    def listening(self, user_id: int) -> Iterator[Listener]:
        """Count a stream in, and out when the block ends. The first has the hub at work."""
        if not self.listeners:
            work = [self.watch()]
            if environment.REDIS_URL:
                work.append(self.listen())
            # In no request's context: its thread and its id end with it.
            self.tasks = [self.loop.create_task(task, context=Context()) for task in work]
        listener = Listener()
        self.listeners.setdefault(user_id, set()).add(listener)
        try:
            yield listener
        finally:
            self.listeners[user_id].remove(listener)
            if not self.listeners[user_id]:
                del self.listeners[user_id]
            if not self.listeners:
                for task in self.tasks:
                    task.cancel()

    def count(self, user_id: int) -> int:
        """Return how many streams a user has here."""
        return len(self.listeners.get(user_id, ()))

    def wake(self, user_id: int, newest: int) -> None:
        """Have the streams of a user look, if they have not come as far as `newest`."""
        for listener in self.listeners.get(user_id, ()):
            if listener.last < newest:
                listener.news.set()

    def stop(self) -> None:
        """End all streams, and those that are still to come."""
        self.stopping = True
        for listeners in self.listeners.values():
            for listener in listeners:
                listener.news.set()

    async def watch(self) -> None:
        """Ask the database who is behind, now and again and when Redis comes or goes."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_WITH_REDIS if self.subscribed else PAUSE):
                    await self.changed.wait()
            self.changed.clear()
            try:
                search = run_alone(newest_ids, list(self.listeners))
                found = await asyncio.wrap_future(search)
            except (Exception, Overloaded) as error:
                # It goes on: the next time the database or a thread may be there.
                logger.error("notifications not looked for", error=repr(error))
            else:
                for user_id, newest in found:
                    self.wake(user_id, newest)

    async def listen(self) -> None:
        """Take the hints of other processes, now and again when Redis is back."""
        pause = 1.0
        while True:
            try:
                async with aclosing(hints.subscribe()) as messages:
                    async for hint in messages:
                        if hint:
                            self.wake(*hint)
                        else:
                            # What was sent before this is for watch() to find, at once.
                            self.subscribed = True
                            self.changed.set()
                            pause = 1.0
            except Exception as error:
                logger.warning("no hints from Redis", error=repr(error))
            finally:
                self.subscribed = False
                self.changed.set()
            # Longer each time and never all at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
            pause = min(pause * 2, 30.0)


# That of the event loop that had a stream last: a server has just one.
current: Hub | None = None


def here() -> Hub:
    """Return the hub of the running event loop."""
    global current
    loop = asyncio.get_running_loop()
    if current is None or current.loop is not loop:
        if current is None:
            stop_on_signals()
        current = Hub(loop)
    return current


def wake(user_id: int, newest: int) -> None:
    """Wake the streams of a user in this process, from any thread."""
    call_soon(Hub.wake, user_id, newest)


def call_soon(method: Callable[..., None], *args: object) -> None:
    """Call a method of this process's hub, if it has one, in its event loop."""
    if hub := current:
        # A loop that is closed has no streams.
        with suppress(RuntimeError):
            hub.loop.call_soon_threadsafe(method, hub, *args)


def stop_on_signals() -> None:
    """Have the streams end with SIGTERM or SIGINT, and the server do then what it does.

    It waits for answers under way, and a stream is one that never ends. uvicorn tells the
    application that it stops only when it has waited, so its signals are taken.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        # Otherwise nobody here waits for anything when it comes.
        if callable(handler):
            signal.signal(number, partial(stop_then, handler))


def stop_then(handler: Callable[..., Any], number: int, frame: Any) -> None:
    """End all streams, then handle a signal as it was handled before."""
    call_soon(Hub.stop)
    handler(number, frame)


def newest_ids(users: list[int]) -> list[tuple[int, int]]:
    """Return the id of the newest notification of each user that has one."""
    found: list[tuple[int, int]] = []
    # A statement can have so many parameters and no more.
    for some in batched(users, 500, strict=False):
        newest = Notification.objects.filter(user__in=some).order_by()
        found += newest.values_list("user").annotate(Max("pk"))
    return found
