# The template updates this file: see serving/README.md.
"""The hub of a process: it knows what is new, and passes it on to the connections here.

The database is the truth. A hint only makes the hub look there, so a hint that is lost is a
delay, and a forged one is a query. Every few seconds the hub looks without a hint as well.
What is new is read and encoded once, however many connections get it.
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

from serving.threads import Overloaded

from . import hints
from .batches import MAX_BATCH, Batch, in_thread
from .hints import Hint
from .sessions import users_of
from .subscribers import MAX_WAITING, SESSION_ENDED, STOPPING, Frame, Place, Subscriber

logger = structlog.get_logger(__name__)

# Seconds between two attempts to subscribe to Redis, which grow from and to.
MIN_BACKOFF = 1.0
MAX_BACKOFF = 30.0


class Topic[S: Subscriber]:
    """A topic as this process knows it, for example a room."""

    def __init__(self) -> None:
        self.subscribers: set[S] = set()
        # The newest id that was passed on here; None until the first subscriber knows it.
        self.last: int | None = None


class Hub[S: Subscriber]:
    """The connections of one event loop, by their topics. An app has its own subclass."""

    # Seconds between two looks for what no hint told of: while hints come from other
    # processes, and while none do.
    POLL_INTERVAL = 15.0
    POLL_INTERVAL_WITHOUT_HINTS = 2.0
    # Seconds between two checks of a session of which nobody told that it ended.
    CHECK_INTERVAL = 60.0
    # Seconds between two looks at what is due.
    WORK_INTERVAL = 1.0

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.topics: dict[str, Topic[S]] = {}
        self.subscribers: set[S] = set()
        self.tasks: list[asyncio.Task[None]] = []
        self.stopping = False
        # Topics to look at, each with the newest id that the database is known to have.
        self.stale: dict[str, int] = {}
        # Users whose sessions are to be checked.
        self.ended: set[str] = set()
        # Whether hints of other processes come, and when the database was looked at.
        self.receiving = False
        self.polled_at = 0.0
        # Set where the work should not wait for its next WORK_INTERVAL.
        self.news, self.soon = asyncio.Event(), asyncio.Event()
        self.read_batch = Batch(self.read_all)

    @classmethod
    def here(cls) -> Self:
        """Return the hub of the running event loop: a server has one, tests have more."""
        hub = hubs.get(cls)
        if not isinstance(hub, cls) or hub.loop is not asyncio.get_running_loop():
            hubs[cls] = hub = cls()
        return hub

    # What an app says of its topics. These are called in threads.

    def newest(self, topics: list[str]) -> dict[str, int]:
        """Return the newest id of each of these topics, of those that have one."""
        raise NotImplementedError

    def read(self, topic: str, after: int, limit: int) -> list[Frame]:
        """Return the first `limit` frames of a topic after an id, in their order."""
        raise NotImplementedError

    def read_all(self, places: list[tuple[str, int]]) -> list[list[Frame] | Exception]:
        """Return the next frames after each of these ids, or why there are none."""
        found: dict[tuple[str, int], list[Frame] | Exception] = {}
        for place in set(places):
            try:
                found[place] = self.read(*place, MAX_WAITING)
            except Exception as error:
                # The others that are read with it do not suffer for it.
                found[place] = error
        return [found[place] for place in places]

    async def read_together(self, place: tuple[str, int]) -> list[Frame]:
        """Return the next frames after an id. Many connections that are behind have missed
        the same, which is read once. Raises what read() raises."""
        found = await self.read_batch(place)
        if isinstance(found, Exception):
            raise found
        return found

    # Connections come and go

    def add(self, subscriber: S) -> None:
        """Take a connection. The first one has the hub at work."""
        if not self.subscribers:
            self.polled_at = self.loop.time()
            work = [
                self.repeat(self.deliver, self.news),
                self.repeat(self.do_due, self.soon),
            ]
            if settings.REDIS_URL:
                work.append(self.receive())
            # In no request's context: they go on after it.
            self.tasks = [self.loop.create_task(one, context=Context()) for one in work]
        self.subscribers.add(subscriber)
        if self.stopping:
            subscriber.close(STOPPING)

    def remove(self, subscriber: S) -> None:
        """Let go of a connection. The last one ends the work."""
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
        """Subscribe a connection to a topic; return the id after which it begins.

        `begin` finds that id and the newest one of the topic. What comes while it looks is
        not missed.
        """
        topic = self.topics.setdefault(name, Topic[S]())
        place = Place(name)
        # One that is subscribed already keeps its old place until it has the new one.
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
        """Let a connection hear no more of a topic."""
        del subscriber.places[name]
        topic = self.topics[name]
        topic.subscribers.discard(subscriber)
        if not topic.subscribers:
            del self.topics[name]

    def stop(self) -> None:
        """Close all connections, and those that are still to come."""
        self.stopping = True
        for subscriber in self.subscribers:
            subscriber.close(STOPPING)

    # What is new

    def look(self, name: str, newest: int = 0) -> None:
        """Look soon what is new in a topic. The database is known to have `newest`."""
        if name in self.topics:
            self.stale[name] = max(newest, self.stale.get(name, 0))
            self.news.set()

    def broadcast(self, name: str, previous: int, frame_id: int, frame: str) -> None:
        """Pass on what this process has stored itself, after the frame before it."""
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
        """Pass on what is new in the topics that hints, and now and again a query, name."""
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
        """Read what is new in a topic and pass it on."""
        while topic := self.topics.get(name):
            if topic.last is None:
                # subscribe() comes back to it.
                self.stale[name] = newest
                return
            try:
                frames = await self.read_together((name, topic.last))
            except (Exception, Overloaded) as error:
                # Again with the next look. Other topics do not wait for this one.
                logger.error("news not read", topic=name, error=repr(error))
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
        """Do what a hint asks for. Others may have sent it: nothing in it is believed."""
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
        """Take the hints of other processes, and try again when Redis was away."""
        backoff = MIN_BACKOFF
        while True:
            try:
                async with aclosing(hints.subscribe()) as received:
                    async for hint in received:
                        if hint:
                            self.handle(hint)
                        else:
                            backoff = MIN_BACKOFF
                            self.set_receiving(True)
            except Exception as error:
                logger.warning("no hints from Redis", error=repr(error))
            finally:
                self.set_receiving(False)
            # Longer each time and never all at once.
            await asyncio.sleep(backoff * random.uniform(0.5, 1.5))  # noqa: S311
            backoff = min(backoff * 2, MAX_BACKOFF)

    def set_receiving(self, receiving: bool) -> None:
        """Note whether hints come. What was published before that is looked for now."""
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
        """Do some work every WORK_INTERVAL, and `soon`, even if it failed the last time."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.WORK_INTERVAL):
                    await soon.wait()
            soon.clear()
            try:
                await work()
            except (Exception, Overloaded):
                logger.exception("hub tries again")

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
    """Give a hint to the hubs of this process, from any thread."""
    for hub in list(hubs.values()):
        # A loop that is closed has no connections.
        with suppress(RuntimeError):
            hub.loop.call_soon_threadsafe(hub.handle, hint)


hints.handlers.append(handle)
