# The template updates this file: see serving/README.md.
"""Threads that are few while they compute, and become more while they only wait.

Python runs one thread at a time. For work that computes, a few threads are best: more would
take turns and be slower. For work that waits, for a database or for another site, each
thread more is one more request at once. A Pool finds out which of the two it has: when
somebody stands in line and this process hardly uses its CPU, it lets more threads run.
.NET's thread pool does the same:
https://learn.microsoft.com/dotnet/standard/threading/the-managed-thread-pool

Whoever waits in line for MAX_WAIT seconds gets the exception Overloaded, and the client a
503.

One thread of each process, the overseer, looks after all pools. It also notices when the
process is stuck. Then /health/ready says so, and the process asks its server to replace it.
"""

import asyncio
import atexit
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import structlog
from django.db import connections

logger = structlog.get_logger(__name__)

# Seconds in line. The proxies wait for 60: nobody is refused who could still be answered.
MAX_WAIT = 50
# Seconds for which no thread of a full pool came free until its process counts as stuck.
# A query, a lock and a proxy are given up before that: what only waits long is not stuck.
STUCK_AFTER = 90
# The same for an event loop that does not run.
BLOCKED_AFTER = 30
# Seconds between two looks of the overseer after which the whole process was suspended.
SUSPENDED_AFTER = 10
# Seconds for which a stuck process says so on /health/ready before it is replaced: whoever
# asks every 10 seconds sends it nothing more by then.
REPLACE_AFTER = 15
# Seconds that it then gets to finish its other requests: more than its server's own
# timeout, which is 20.
KILL_AFTER = 25

# Seconds after which a thread that nobody needs ends.
IDLE_TIMEOUT = 5
# Seconds between two looks of the overseer at pools in which somebody waits.
TICK = 0.02
# CPUs that this process uses. Below the first its threads wait, above the second they
# compute. If it gets no CPU, because others take it, the overseer notices by being late.
WAITING_CPU = 0.4
COMPUTING_CPU = 0.8
# Seconds without any progress after which one more thread is tried, even if all compute.
STALLED_AFTER = 0.5


class Overloaded(BaseException):
    """No thread became free within MAX_WAIT seconds.

    Like CancelledError it is not for views to catch, and no error page is made of it.
    """

    def __init__(self, pool: "Pool") -> None:
        super().__init__(f"no thread of the pool {pool.name!r} came free")
        self.pool = pool


class Job:
    """A call that stands in line for a thread."""

    __slots__ = ("call", "future", "since")

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.future: Future[Any] = Future()
        self.since = time.monotonic()

    def run(self) -> None:
        """Make the call, unless it was given up."""
        if self.future.set_running_or_notify_cancel():
            try:
                self.future.set_result(self.call())
            except BaseException as error:
                self.future.set_exception(error)


class Worker(threading.Thread):
    """A thread of a pool: one job after the other."""

    def __init__(self, pool: "Pool", number: int) -> None:
        super().__init__(name=f"{pool.name}-{number}", daemon=True)
        self.pool = pool
        self.inbox: SimpleQueue[Job | None] = SimpleQueue()

    def run(self) -> None:
        job = self.inbox.get()
        while job:
            job.run()
            # What the job holds, a request for example, must not live until the next one.
            job = None
            job = self.pool.next_job(self)
        with suppress(Exception):  # one that is broken cannot be closed
            connections.close_all()


class Pool(ThreadPoolExecutor):
    """Runs calls in `few` threads while they compute, in up to `most` while they wait.

    asyncio and gunicorn want a ThreadPoolExecutor; nothing but its name is used of it.
    """

    def __init__(
        self, name: str, few: int, most: int, after_call: Callable[[], None] | None = None
    ) -> None:
        super().__init__(most, name)
        self.name, self.few, self.most = name, few, most
        self.after_call = after_call
        self.reset()
        POOLS.append(self)

    def reset(self) -> None:
        """Begin with no threads. In a process that was forked there are none."""
        self.lock = threading.Lock()
        self.closed = False
        self.waiting: deque[Job] = deque()
        self.idle: list[Worker] = []
        # All threads: those that run a call, those that are idle, and those that a request
        # holds while it waits for something else. At most `most`.
        self.threads = self.started = self.refused = 0
        # How many run, and how many may. A held thread goes on whatever the limit says.
        self.running, self.limit = 0, self.few
        now = time.monotonic()
        # When a call was last done, when a thread last changed its request, when one more
        # thread was tried, and when it was last said that the machine gives none.
        self.progress_at = self.freed_at = self.tried_at = self.warned_at = now

    def submit[T](self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a call in a thread; the Future may raise Overloaded."""
        call = partial(call, *args, **kwargs)
        if self.after_call:
            call = partial(call_and_then, call, self.after_call)
        job = Job(call)
        with self.lock:
            if self.closed:
                raise RuntimeError(f"The pool {self.name!r} is closed.")
            self.waiting.append(job)
            self.hand_out()
            in_line = bool(self.waiting)
        if in_line:
            overseer.call()
        return job.future

    def take(self) -> Job | None:
        """Take the next job that may run now. Call it with the lock held."""
        while self.waiting and self.running < self.limit:
            job = self.waiting.popleft()
            if not job.future.cancelled():
                self.running += 1
                self.freed_at = time.monotonic()
                return job
        return None

    def hand_out(self) -> None:
        """Give jobs to idle or new threads, as many as may run, with the lock held."""
        while (self.idle or self.threads < self.most) and (job := self.take()):
            if self.idle:
                self.idle.pop().inbox.put(job)
                continue
            self.threads += 1
            self.started += 1
            worker = Worker(self, self.started)
            worker.inbox.put(job)
            try:
                worker.start()
            except RuntimeError:
                # The machine gives no more. The overseer tries again.
                self.threads -= 1
                self.running -= 1
                self.waiting.appendleft(job)
                if (now := time.monotonic()) - self.warned_at > 60:
                    self.warned_at = now
                    logger.warning(
                        "no more threads to be had", pool=self.name, threads=self.threads
                    )
                return

    def next_job(self, worker: Worker) -> Job | None:
        """Return the next job for a thread that is done with one; None ends the thread."""
        with self.lock:
            self.running -= 1
            self.progress_at = self.freed_at = time.monotonic()
            if job := self.take():
                return job
            if self.closed:
                self.threads -= 1
                return None
            self.idle.append(worker)
        while True:
            with suppress(Empty):
                return worker.inbox.get(timeout=IDLE_TIMEOUT)
            with self.lock:
                if worker in self.idle and self.threads > self.few:
                    self.idle.remove(worker)
                    self.threads -= 1
                    return None

    def rest(self) -> None:
        """Note that a thread has nothing to do but stays with its request."""
        with self.lock:
            self.running -= 1
            self.progress_at = time.monotonic()
            self.hand_out()

    def resume(self) -> None:
        """Note that a thread of rest() has something to do again."""
        with self.lock:
            self.running += 1

    def adopt(self, worker: Worker) -> bool:
        """Count a running thread of another pool to this one, whatever the limit says;
        return whether there was room."""
        with self.lock:
            if self.threads >= self.most:
                return False
            self.threads += 1
            self.started += 1
            self.running += 1
            worker.name = f"{self.name}-{self.started}"
        with worker.pool.lock:
            worker.pool.threads -= 1
            worker.pool.running -= 1
            worker.pool.freed_at = time.monotonic()
            worker.pool.hand_out()
        worker.pool = self
        return True

    def pause(self) -> float:
        """Return how soon the overseer has to look at this pool, in seconds."""
        return TICK if self.waiting else 10 * TICK if self.limit > self.few else 1

    def adjust(self, cpu: float, now: float) -> None:
        """Let more threads run, or fewer; refuse those who have waited for too long.

        `cpu` is how many CPUs this process uses, `now` the time of time.monotonic().
        """
        refused = []
        with self.lock:
            while self.waiting and (
                self.waiting[0].future.cancelled() or now - self.waiting[0].since > MAX_WAIT
            ):
                job = self.waiting.popleft()
                if job.future.set_running_or_notify_cancel():
                    refused.append(job)
            lower = max(self.few, self.limit - self.limit // 8 - 1)
            if self.waiting and cpu < WAITING_CPU:
                self.limit = max(self.limit, self.running * 3 // 2 + 1)
            elif now - max(self.stood_still_since(), self.tried_at) > STALLED_AFTER:
                self.limit = max(self.limit, self.running + 1)
                self.tried_at = now
            elif cpu > COMPUTING_CPU:
                self.limit = lower
            elif not self.waiting:
                # Whoever comes next shall not stand in line.
                self.limit = max(lower, self.running + 1)
            self.limit = min(self.limit, self.most)
            self.hand_out()
            self.refused += len(refused)
        for job in refused:
            job.future.set_exception(Overloaded(self))

    def stood_still_since(self) -> float:
        """Return since when somebody waits and no thread was done with anything."""
        return (
            max(self.waiting[0].since, self.progress_at) if self.waiting else float("inf")
        )

    def numbers(self) -> dict[str, int]:
        """Return how many threads there are, how many of them run or are held by a request
        that waits, how many calls wait, and how many were refused since the start."""
        with self.lock:
            return {
                "threads": self.threads,
                "running": self.running,
                "held": self.threads - self.running - len(self.idle),
                "waiting": len(self.waiting),
                "refused": self.refused,
            }

    def problem(self, now: float) -> str | None:
        """Return why nothing gets on here, or None if it does.

        Where most threads are held by requests that wait for something else, more of them
        are needed, and another process would not help.
        """
        with self.lock:
            full = self.waiting and not self.idle and self.threads >= self.most
            if not full or 2 * self.running < self.threads:
                return None
            if now - self.freed_at < STUCK_AFTER:
                return None
            return f"No thread of {self.name!r} has come free for {STUCK_AFTER} seconds."

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and end the threads. With `wait`, those that have been taken
        are made first, as ThreadPoolExecutor promises: somebody's work is in them."""
        with self.lock:
            self.closed = True
            ended, self.idle = self.idle, []
            self.threads -= len(ended)
            if cancel_futures:
                for job in self.waiting:
                    job.future.cancel()
            if self in POOLS:
                POOLS.remove(self)
        for worker in ended:
            worker.inbox.put(None)
        if wait:
            # Held threads have nothing to do, and nobody to do it for.
            while self.running:
                time.sleep(TICK)
            for worker in ended:
                worker.join(1)


def call_and_then[T](call: Callable[[], T], after_call: Callable[[], None]) -> T:
    """Make a call, and another one after it."""
    try:
        return call()
    finally:
        after_call()


class Overseer:
    """Looks after the pools and the event loop of this process, in a thread of its own."""

    def __init__(self, pools: list[Pool]) -> None:
        self.pools = pools
        self.reset()

    def reset(self) -> None:
        """Begin with no thread. In a process that was forked there is none."""
        self.lock = threading.Lock()
        self.called = threading.Event()
        self.thread: threading.Thread | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        # When the event loop was asked whether it runs; None once it has answered.
        self.asked_at: float | None = None
        self.replaces = False
        # Called once a minute, for the numbers in the log.
        self.each_minute: Callable[[], None] | None = None
        # When it was first seen that this process is stuck, and when it was told to end.
        self.stuck_at: float | None = None
        self.replaced_at: float | None = None

    def call(self) -> None:
        """Have it look, now."""
        with suppress(RuntimeError):  # no more threads to be had: the next call tries again
            self.start()
        self.called.set()

    def start(self) -> None:
        """Start its thread, if that was not done."""
        if self.thread:
            return
        with self.lock:
            if not self.thread:
                thread = threading.Thread(target=self.run, name="overseer", daemon=True)
                thread.start()
                self.thread = thread

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Notice when the event loop does not run."""
        self.loop, self.asked_at = loop, None
        self.call()

    def run(self) -> None:
        """Look at the pools often while somebody waits, at the event loop each second."""
        self.begin(time.monotonic(), time.process_time())
        while True:
            late = self.pause()
            try:
                self.look(time.monotonic(), time.process_time(), late)
            except Exception:
                logger.exception("overseer goes on")

    def begin(self, now: float, used: float) -> None:
        """Note with what the first look() compares what it is given."""
        # How many CPUs this process uses.
        self.cpu = COMPUTING_CPU
        self.looked_at, self.used = now, used
        # When each_minute was last called.
        self.minute_at = now

    def pause(self) -> float:
        """Wait until the next look is due; return how many seconds too late that ends."""
        pause = min((pool.pause() for pool in tuple(self.pools)), default=1)
        if not self.called.wait(pause):
            return 0
        # Somebody waits. Often a thread comes free before anything is to be done.
        self.called.clear()
        slept_at = time.monotonic()
        time.sleep(TICK)
        return time.monotonic() - slept_at - TICK

    def look(self, now: float, used: float, late: float) -> None:
        """Look at the pools, and at the process.

        `now` is the time of time.monotonic(), `used` the CPU time of this process. If the
        pause before was too long, by `late` seconds, others take the CPU.
        """
        passed = now - self.looked_at
        # Half of it is the past: one look alone may meet all threads at the same point.
        self.cpu = (self.cpu + (used - self.used) / max(passed, 0.001)) / 2
        self.looked_at, self.used = now, used
        if passed > SUSPENDED_AFTER:
            # The whole process stood still, this thread as well: it was suspended.
            self.forgive(now)
        cpu = max(self.cpu, COMPUTING_CPU) if late > TICK else self.cpu
        for pool in tuple(self.pools):
            pool.adjust(cpu, now)
        self.look_at_process(now)
        if now - self.minute_at > 60 and self.each_minute:
            self.minute_at = now
            self.each_minute()

    def forgive(self, now: float) -> None:
        """Count the time for which nothing could get on from now."""
        self.asked_at = None
        for pool in tuple(self.pools):
            pool.progress_at = pool.freed_at = now

    def look_at_process(self, now: float) -> None:
        """Ask the event loop whether it runs; have the process replaced if it is stuck."""
        if self.loop and self.asked_at is None and self.loop.is_running():
            self.asked_at = now
            with suppress(RuntimeError):  # closed just now
                self.loop.call_soon_threadsafe(self.answer)
        if self.replaced_at:
            if now - self.replaced_at > KILL_AFTER:
                os.kill(os.getpid(), signal.SIGKILL)
            return
        reason = self.problem()
        if not reason:
            self.stuck_at = None
        elif not self.stuck_at:
            self.stuck_at = now
            logger.error("process is stuck", reason=reason, **numbers())
        elif self.replaces and now - self.stuck_at > REPLACE_AFTER:
            self.replaced_at = now
            logger.error("process is replaced", reason=reason)
            # The server takes no new requests, finishes those that it can, and ends. Its
            # supervisor starts another.
            os.kill(os.getpid(), signal.SIGTERM)

    def answer(self) -> None:
        """Note, in the event loop, that it runs."""
        self.asked_at = None

    def problem(self) -> str | None:
        """Return why this process is stuck, or None if it is not."""
        now = time.monotonic()
        running = self.loop and self.loop.is_running()
        if running and self.asked_at and now - self.asked_at > BLOCKED_AFTER:
            return f"The event loop has not run for {BLOCKED_AFTER} seconds: a view blocks."
        return next(filter(None, (pool.problem(now) for pool in tuple(self.pools))), None)


# All pools of this process that take calls.
POOLS: list[Pool] = []
overseer = Overseer(POOLS)


def numbers() -> dict[str, dict[str, int]]:
    """Return the numbers of each pool of this process, by its name."""
    return {pool.name: pool.numbers() for pool in tuple(POOLS)}


def forget_threads() -> None:
    """Begin anew in a process that was forked."""
    overseer.reset()
    for pool in tuple(POOLS):
        pool.reset()


def close_pools() -> None:
    """End the threads when the interpreter does, as it does with its own: their calls are
    made to the end, and their connections are closed."""
    for pool in tuple(POOLS):
        pool.shutdown()


os.register_at_fork(after_in_child=forget_threads)
atexit.register(close_pools)
