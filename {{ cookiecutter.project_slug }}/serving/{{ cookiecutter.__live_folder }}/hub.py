# The template updates this file: see serving/README.md.
"""The hub of a process: it reads new frames and sends them to the connections here.

The database is the truth. A hint only makes the hub query it, so a lost hint causes a
delay, and a forged one a query. Every few seconds the hub also polls without a hint. New
frames are read and encoded once for all connections.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from contextvars import Context
from itertools import batched
from typing import Any, Self

import structlog
from django.conf import settings

from serving import outages
from serving.threads import Overloaded

from . import hints
from .batches import MAX_BATCH, Batch, in_thread
from .hints import Hint
from .sessions import users_of
from .subscribers import MAX_WAITING, SESSION_ENDED, Frame, Place, Subscriber

logger = structlog.get_logger(__name__)

# Seconds between two attempts to subscribe to Redis.
MIN_BACKOFF = 1.0
MAX_BACKOFF = 30.0


class Topic[S: Subscriber]:
    """A topic as this process knows it, for example a room."""

    def __init__(self) -> None:
        self.subscribers: set[S] = set()
        # The newest id that was sent here; None until the first subscriber has found it.
        self.last: int | None = None


class Hub[S: Subscriber]:
    """The connections of one event loop, by their topics. An app has its own subclass."""

    # Seconds between two polls of the database: while hints of other processes arrive, and
    # while they do not.
    POLL_INTERVAL = 15.0
    POLL_INTERVAL_WITHOUT_HINTS = 2.0
    # Seconds between two checks of a session without a hint.
    CHECK_INTERVAL = 60.0
    # Seconds between two runs of the periodic work.
    WORK_INTERVAL = 1.0

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.topics: dict[str, Topic[S]] = {}
        self.subscribers: set[S] = set()
        self.tasks: list[asyncio.Task[None]] = []
        # Topics to query, each with the newest id that the database is known to have.
        self.stale: dict[str, int] = {}
        # Users whose sessions are to be checked.
        self.ended: set[str] = set()
        # Whether hints of other processes arrive, and when the database was last polled.
        self.receiving = False
        self.polled_at = 0.0
        # Set if the work must not wait for the next WORK_INTERVAL.
        self.news, self.soon = asyncio.Event(), asyncio.Event()
        self.read_batch = Batch(self.read_all)

    @classmethod
    def here(cls) -> Self:
        """Return the hub of the running event loop. Tests have more than one loop."""
        hub = hubs.get(cls)
        if not isinstance(hub, cls) or hub.loop is not asyncio.get_running_loop():
            hubs[cls] = hub = cls()
        return hub

    # An app implements these two methods. They are called in threads.

    def newest(self, topics: list[str]) -> dict[str, int]:
        """Return the newest id of each of these topics that has one."""
        raise NotImplementedError

    def read(self, topic: str, after: int, limit: int) -> list[Frame]:
        """Return the first `limit` frames of a topic after an id, in ascending order."""
        raise NotImplementedError

    def read_all(self, places: list[tuple[str, int]]) -> list[list[Frame] | Exception]:
        """Return the next frames after each of these ids, or an exception."""
        found: dict[tuple[str, int], list[Frame] | Exception] = {}
        for place in set(places):
            try:
                found[place] = self.read(*place, MAX_WAITING)
            except Exception as error:
                # It must not affect the other topics of the batch.
                found[place] = error
        return [found[place] for place in places]

    async def read_together(self, place: tuple[str, int]) -> list[Frame]:
        """Return the next frames after an id. Connections that have missed the same frames
        share one query. Raises what read() raises."""
        found = await self.read_batch(place)
        if isinstance(found, Exception):
            raise found
        return found

    # Connections come and go

    def add(self, subscriber: S) -> None:
        """Add a connection. The first one starts the background work."""
        if not self.subscribers:
            self.polled_at = self.loop.time()
            work = [
                self.repeat(self.deliver, self.news),
                self.repeat(self.do_due, self.soon),
            ]
            if settings.REDIS_URL:
                work.append(self.receive())
            # In an empty context, because they continue after this request.
            self.tasks = [self.loop.create_task(one, context=Context()) for one in work]
        self.subscribers.add(subscriber)

    def remove(self, subscriber: S) -> None:
        """Remove a connection. The last one ends the background work."""
        for name in list(subscriber.places):
            self.unsubscribe(subscriber, name)
        self.subscribers.discard(subscriber)
        if not self.subscribers:
            for task in self.tasks:
                task.cancel()
            self.tasks = []

    async def subscribe(
        self, subscriber: S, name: str, begin: Awaitable[tuple[int, int]]
    ) -> int:
        """Subscribe a connection to a topic; return the id after which it starts.

        `begin` finds that id and the newest one of the topic. Frames that come meanwhile
        are not missed.
        """
        topic = self.topics.setdefault(name, Topic[S]())
        place = Place(name)
        # If it is subscribed already, it keeps its old place until it has the new one.
        again = name in subscriber.places
        if not again:
            subscriber.places[name] = place
            topic.subscribers.add(subscriber)
        try:
            start, newest = await begin
        except BaseException:
            if subscriber.places.get(name) is place:
                self.unsubscribe(subscriber, name)
            raise
        if again and name in subscriber.places:
            subscriber.places[name] = place
        if topic.last is None:
            topic.last = newest
            if name in self.stale:
                self.news.set()
        place.begin(start, max(newest, topic.last))
        subscriber.wake.set()
        return start

    def unsubscribe(self, subscriber: S, name: str) -> None:
        """Unsubscribe a connection from a topic."""
        del subscriber.places[name]
        topic = self.topics[name]
        topic.subscribers.discard(subscriber)
        if not topic.subscribers:
            del self.topics[name]

    # What is new

    def look(self, name: str, newest: int = 0) -> None:
        """Query a topic soon. The database is known to have `newest`."""
        if name in self.topics:
            self.stale[name] = max(newest, self.stale.get(name, 0))
            self.news.set()

    def broadcast(self, name: str, previous: int, frame_id: int, frame: str) -> None:
        """Send a frame that this process has stored, if the one before it was sent."""
        topic = self.topics.get(name)
        if topic and topic.last is not None and previous <= topic.last:
            self.pass_on(name, topic, frame_id, frame)
        else:
            self.look(name)

    def pass_on(self, name: str, topic: Topic[S], frame_id: int, frame: str) -> None:
        """Offer a frame to all subscribers of a topic."""
        if topic.last is not None and frame_id > topic.last:
            topic.last = frame_id
            for subscriber in topic.subscribers:
                subscriber.offer(name, frame_id, frame)

    async def deliver(self) -> None:
        """Send the new frames of the topics that hints or polling have found."""
        now = self.loop.time()
        interval = (
            self.POLL_INTERVAL if self.receiving else self.POLL_INTERVAL_WITHOUT_HINTS
        )
        if self.topics and now - self.polled_at >= interval:
            self.polled_at = now
            for name, newest in (await in_thread(self.newest, list(self.topics))).items():
                topic = self.topics.get(name)
                if topic and (topic.last is None or topic.last < newest):
                    self.look(name, newest)
        stale, self.stale = self.stale, {}
        await asyncio.gather(*(self.catch_up(*one) for one in stale.items()))

    async def catch_up(self, name: str, newest: int) -> None:
        """Read and send the new frames of a topic."""
        while topic := self.topics.get(name):
            if topic.last is None:
                # subscribe() wakes this work again.
                self.stale[name] = newest
                return
            try:
                frames = await self.read_together((name, topic.last))
            except (Exception, Overloaded) as error:
                # Retry at the next run. Other topics must not wait for this one.
                outages.report("news not read", error, topic=name)
                self.stale[name] = newest
                return
            for frame_id, frame in frames:
                self.pass_on(name, topic, frame_id, frame)
            if len(frames) < MAX_WAITING:
                # The newest ones may have been deleted.
                topic.last = max(topic.last, newest)
                return

    # Hints

    def handle(self, hint: Hint) -> None:
        """Handle a hint. It may be forged, so nothing in it is trusted."""
        match hint.kind:
            case "news":
                topic = self.topics.get(hint.topic)
                if topic and (topic.last is None or topic.last < hint.newest):
                    self.look(hint.topic)
            case "session":
                if self.subscribers:
                    self.ended.add(hint.topic)
                    self.soon.set()
            case _:
                logger.warning("hint not understood", kind=hint.kind[:100])

    async def receive(self) -> None:
        """Receive the hints of other processes, and reconnect if Redis fails."""
        backoff = MIN_BACKOFF
        while True:
            try:
                async with aclosing(hints.subscribe()) as received:
                    async for hint in received:
                        if hint:
                            self.handle(hint)
                        else:
                            backoff = MIN_BACKOFF
                            outages.redis.works()
                            self.set_receiving(True)
            except Exception as error:
                outages.report("no hints from Redis", error)
            finally:
                self.set_receiving(False)
            # Exponential backoff with jitter.
            await asyncio.sleep(backoff * random.uniform(0.5, 1.5))  # noqa: S311
            backoff = min(backoff * 2, MAX_BACKOFF)

    def set_receiving(self, receiving: bool) -> None:
        """Set whether hints arrive. Poll now, because earlier hints may have been lost."""
        self.receiving = receiving
        self.polled_at = float("-inf")
        if receiving:
            for subscriber in self.subscribers:
                subscriber.checked_at = float("-inf")
        self.news.set()
        self.soon.set()

    # Work in the background

    async def repeat(
        self, work: Callable[[], Awaitable[None]], soon: asyncio.Event
    ) -> None:
        """Do some work every WORK_INTERVAL and when `soon` is set, even after errors."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.WORK_INTERVAL):
                    await soon.wait()
            soon.clear()
            try:
                await work()
            except (Exception, Overloaded) as error:
                outages.report("hub tries again", error)

    async def do_due(self) -> None:
        """Close the connections whose session has ended."""
        due = self.loop.time() - self.CHECK_INTERVAL
        ended, self.ended = self.ended, set()
        subscribers = [
            subscriber
            for subscriber in self.subscribers
            if subscriber.checked_at <= due or str(subscriber.user_id) in ended
        ]
        try:
            for some in batched(subscribers, MAX_BATCH, strict=False):
                users = await in_thread(users_of, [one.session_key for one in some])
                for subscriber, user in zip(some, users, strict=True):
                    subscriber.checked_at = self.loop.time()
                    if user is None or subscriber.user_id != user.pk:
                        subscriber.close(SESSION_ENDED)
        except BaseException:
            self.ended |= ended
            raise


# The newest hub of each kind in this process.
hubs: dict[type, Hub[Any]] = {}


def handle(hint: Hint) -> None:
    """Pass a hint to the hubs of this process, from any thread."""
    for hub in list(hubs.values()):
        # The loop may be closed.
        with suppress(RuntimeError):
            hub.loop.call_soon_threadsafe(hub.handle, hint)


hints.handlers.append(handle)
