# The template updates this file: see serving/README.md.
"""Thread pools that run few threads while they compute, and more while they wait.

Python runs one thread at a time. For work that computes, a few threads are best: more only
slow each other down. For work that waits, for a database or for another site, each thread
serves one more request at the same time. A Pool measures which kind it has: if calls wait
in its queue while the process uses little CPU, it runs more threads. The thread pool of
.NET works in the same way:
https://learn.microsoft.com/dotnet/standard/threading/the-managed-thread-pool

A call that waits for MAX_WAIT seconds fails with Overloaded, and the client gets a 503.
One thread of each process, the watchdog, adjusts all pools. If the process is stuck,
/health/ready says so, and the process asks its server to replace it.
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

# Seconds in the queue. The proxies wait for 60, so the client still gets the 503.
MAX_WAIT = 50
# Seconds without a free thread in a full pool, after which the process counts as stuck. The
# timeouts of queries, locks and proxies are shorter, so slow requests do not count.
STUCK_AFTER = 90
# The same for an event loop that does not run.
BLOCKED_AFTER = 30
# If the watchdog did not run for this many seconds, the whole process was suspended.
SUSPENDED_AFTER = 10
# Seconds from the first failure of /health/ready until a stuck process is replaced. A probe
# every 10 seconds takes it out of rotation before that.
REPLACE_AFTER = 15
# Seconds that it then has to finish its other requests. The timeout of its server, which is
# 20, must be shorter.
KILL_AFTER = 25

# Seconds after which an idle thread ends.
IDLE_TIMEOUT = 5
# Seconds between two checks by the watchdog, while calls wait.
CHECK_INTERVAL = 0.02
# CPUs that this process uses. Below the first, its threads wait; above the second, they
# compute. If other processes use the CPU, the watchdog notices that because it runs late.
WAITING_CPU = 0.4
COMPUTING_CPU = 0.8
# Seconds without progress, after which one more thread is tried even if all compute.
STALLED_AFTER = 0.5


class Overloaded(BaseException):
    """No thread became free within MAX_WAIT seconds.

    Like CancelledError, it is a BaseException, so that views do not catch it.
    """

    def __init__(self, pool: "Pool") -> None:
        super().__init__(f"no thread of the pool {pool.name!r} became free")
        self.pool = pool


class Job:
    """A call in the queue of a pool."""

    __slots__ = ("call", "future", "since")

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.future: Future[Any] = Future()
        self.since = time.monotonic()

    def run(self) -> None:
        """Run the call, unless it was cancelled."""
        if self.future.set_running_or_notify_cancel():
            try:
                self.future.set_result(self.call())
            except BaseException as error:
                self.future.set_exception(error)


class PoolThread(threading.Thread):
    """A thread of a pool: one job after the other."""

    def __init__(self, pool: "Pool", number: int) -> None:
        super().__init__(name=f"{pool.name}-{number}", daemon=True)
        self.pool = pool
        self.inbox: SimpleQueue[Job | None] = SimpleQueue()

    def run(self) -> None:
        job = self.inbox.get()
        while job:
            job.run()
            # Free the objects of the job, such as a request, before the next one comes.
            job = None
            job = self.pool.next_job(self)
        with suppress(Exception):  # a broken connection cannot be closed
            connections.close_all()


class Pool(ThreadPoolExecutor):
    """Runs `min_threads` while its calls compute, and up to `max_threads` while they wait.

    asyncio and gunicorn require a ThreadPoolExecutor, so it inherits from that.
    """

    def __init__(
        self,
        name: str,
        min_threads: int,
        max_threads: int,
        after_call: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(max_threads, name)
        self.name, self.min_threads, self.max_threads = name, min_threads, max_threads
        self.after_call = after_call
        self.reset()
        POOLS.append(self)

    def reset(self) -> None:
        """Start without threads: a forked process has none."""
        self.lock = threading.Lock()
        self.closed = False
        self.waiting: deque[Job] = deque()
        self.idle: list[PoolThread] = []
        # All threads: running, idle, and held by a request that waits for something else.
        # At most `max_threads`.
        self.threads = self.started = self.refused = 0
        # How many run, and how many may run. A held thread may resume above the limit.
        self.running, self.limit = 0, self.min_threads
        now = time.monotonic()
        # When a call last ended, when a thread last changed its request, when one more
        # thread was last tried, and when the last warning was logged.
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
            self.dispatch()
            queued = bool(self.waiting)
        if queued:
            watchdog.wake()
        return job.future

    def take(self) -> Job | None:
        """Take the next job that may run now. The caller holds the lock."""
        while self.waiting and self.running < self.limit:
            job = self.waiting.popleft()
            if not job.future.cancelled():
                self.running += 1
                self.freed_at = time.monotonic()
                return job
        return None

    def dispatch(self) -> None:
        """Give jobs to idle or new threads, up to the limit. The caller holds the lock."""
        while (self.idle or self.threads < self.max_threads) and (job := self.take()):
            if self.idle:
                self.idle.pop().inbox.put(job)
                continue
            self.threads += 1
            self.started += 1
            worker = PoolThread(self, self.started)
            worker.inbox.put(job)
            try:
                worker.start()
            except RuntimeError:
                # The operating system allows no more threads. The watchdog tries again.
                self.threads -= 1
                self.running -= 1
                self.waiting.appendleft(job)
                if (now := time.monotonic()) - self.warned_at > 60:
                    self.warned_at = now
                    logger.warning(
                        "cannot start more threads", pool=self.name, threads=self.threads
                    )
                return

    def next_job(self, worker: PoolThread) -> Job | None:
        """Return the next job for a thread that has finished one; None ends the thread."""
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
                if worker in self.idle and self.threads > self.min_threads:
                    self.idle.remove(worker)
                    self.threads -= 1
                    return None

    def hold(self) -> None:
        """Mark a thread as held: it has nothing to do, but stays with its request."""
        with self.lock:
            self.running -= 1
            self.progress_at = time.monotonic()
            self.dispatch()

    def resume(self) -> None:
        """Mark a held thread as running again."""
        with self.lock:
            self.running += 1

    def adopt(self, worker: PoolThread) -> bool:
        """Move a running thread from another pool to this one, even above the limit; return
        False if this pool is full."""
        with self.lock:
            if self.threads >= self.max_threads:
                return False
            self.threads += 1
            self.started += 1
            self.running += 1
            worker.name = f"{self.name}-{self.started}"
        with worker.pool.lock:
            worker.pool.threads -= 1
            worker.pool.running -= 1
            worker.pool.freed_at = time.monotonic()
            worker.pool.dispatch()
        worker.pool = self
        return True

    def pause(self) -> float:
        """Return the seconds until the watchdog must check this pool again."""
        if self.waiting:
            return CHECK_INTERVAL
        return 10 * CHECK_INTERVAL if self.limit > self.min_threads else 1

    def adjust(self, cpu: float, now: float) -> None:
        """Raise or lower the limit; refuse calls that have waited for too long.

        `cpu` is the number of CPUs that this process uses, `now` is time.monotonic().
        """
        refused = []
        with self.lock:
            while self.waiting and (
                self.waiting[0].future.cancelled() or now - self.waiting[0].since > MAX_WAIT
            ):
                job = self.waiting.popleft()
                if job.future.set_running_or_notify_cancel():
                    refused.append(job)
            lower = max(self.min_threads, self.limit - self.limit // 8 - 1)
            if self.waiting and cpu < WAITING_CPU:
                self.limit = max(self.limit, self.running * 3 // 2 + 1)
            elif now - max(self.stalled_since(), self.tried_at) > STALLED_AFTER:
                self.limit = max(self.limit, self.running + 1)
                self.tried_at = now
            elif cpu > COMPUTING_CPU:
                self.limit = lower
            elif not self.waiting:
                # The next call must not wait.
                self.limit = max(lower, self.running + 1)
            self.limit = min(self.limit, self.max_threads)
            self.dispatch()
            self.refused += len(refused)
        for job in refused:
            job.future.set_exception(Overloaded(self))

    def stalled_since(self) -> float:
        """Return the time since which calls wait and no call has ended."""
        return (
            max(self.waiting[0].since, self.progress_at) if self.waiting else float("inf")
        )

    def numbers(self) -> dict[str, int]:
        """Return the numbers of threads, of running threads, of threads held by requests
        that wait, of calls in the queue, and of calls refused since the start."""
        with self.lock:
            return {
                "threads": self.threads,
                "running": self.running,
                "held": self.threads - self.running - len(self.idle),
                "waiting": len(self.waiting),
                "refused": self.refused,
            }

    def problem(self, now: float) -> str | None:
        """Return why this pool is stuck, or None if it is not.

        If most threads are held by requests that wait for something else, the pool is too
        small. Replacing the process would not help.
        """
        with self.lock:
            full = self.waiting and not self.idle and self.threads >= self.max_threads
            if not full or 2 * self.running < self.threads:
                return None
            if now - self.freed_at < STUCK_AFTER:
                return None
            return f"No thread of {self.name!r} became free for {STUCK_AFTER} seconds."

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls, and end the threads. With `wait`, the calls in the queue
        run first, as ThreadPoolExecutor promises."""
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
            # Only running threads: held ones have no call.
            while self.running:
                time.sleep(CHECK_INTERVAL)
            for worker in ended:
                worker.join(1)


def call_and_then[T](call: Callable[[], T], after_call: Callable[[], None]) -> T:
    """Run a call, and `after_call` after it."""
    try:
        return call()
    finally:
        after_call()


class Watchdog:
    """Watches the pools and the event loop of this process, in its own thread."""

    def __init__(self, pools: list[Pool]) -> None:
        self.pools = pools
        self.reset()

    def reset(self) -> None:
        """Start without a thread: a forked process has none."""
        self.lock = threading.Lock()
        self.woken = threading.Event()
        self.thread: threading.Thread | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        # When a callback was sent to the event loop; None after it has run.
        self.pinged_at: float | None = None
        self.replaces = False
        # Why this process must get no more requests: its server stops.
        self.stopping: str | None = None
        # Called once a minute, to log the metrics.
        self.each_minute: Callable[[], None] | None = None
        # When this process was first found stuck, and when SIGTERM was sent to it.
        self.stuck_at: float | None = None
        self.replaced_at: float | None = None

    def wake(self) -> None:
        """Make it check now."""
        with suppress(RuntimeError):  # no thread was started: the next call tries again
            self.start()
        self.woken.set()

    def start(self) -> None:
        """Start its thread, if it does not run yet."""
        if self.thread:
            return
        with self.lock:
            if not self.thread:
                thread = threading.Thread(target=self.run, name="watchdog", daemon=True)
                thread.start()
                self.thread = thread

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch an event loop too."""
        self.loop, self.pinged_at = loop, None
        self.wake()

    def run(self) -> None:
        """Check often while calls wait, otherwise once a second."""
        self.start_measuring(time.monotonic(), time.process_time())
        while True:
            late = self.pause()
            try:
                self.check(time.monotonic(), time.process_time(), late)
            except Exception:
                logger.exception("watchdog goes on")

    def start_measuring(self, now: float, used: float) -> None:
        """Set the values with which the first check() compares."""
        # The number of CPUs that this process uses.
        self.cpu = COMPUTING_CPU
        self.checked_at, self.used = now, used
        # When each_minute was last called.
        self.minute_at = now

    def pause(self) -> float:
        """Wait until the next check; return how many seconds too late the wait ended."""
        pause = min((pool.pause() for pool in tuple(self.pools)), default=1)
        if not self.woken.wait(pause):
            return 0
        # A call waits. Often a thread becomes free before a check is needed.
        self.woken.clear()
        slept_at = time.monotonic()
        time.sleep(CHECK_INTERVAL)
        return time.monotonic() - slept_at - CHECK_INTERVAL

    def check(self, now: float, used: float, late: float) -> None:
        """Check the pools and the process.

        `now` is time.monotonic(), `used` the CPU time of this process, and `late` by how
        many seconds the pause was too long. If it was, other processes use the CPU.
        """
        passed = now - self.checked_at
        # A moving average: a single measurement varies too much.
        self.cpu = (self.cpu + (used - self.used) / max(passed, 0.001)) / 2
        self.checked_at, self.used = now, used
        if passed > SUSPENDED_AFTER:
            # This thread did not run either, so the whole process was suspended.
            self.reset_timers(now)
        cpu = max(self.cpu, COMPUTING_CPU) if late > CHECK_INTERVAL else self.cpu
        for pool in tuple(self.pools):
            pool.adjust(cpu, now)
        self.check_process(now)
        if now - self.minute_at > 60 and self.each_minute:
            self.minute_at = now
            self.each_minute()

    def reset_timers(self, now: float) -> None:
        """Restart all timers of stuck pools and of the event loop."""
        self.pinged_at = None
        for pool in tuple(self.pools):
            pool.progress_at = pool.freed_at = now

    def check_process(self, now: float) -> None:
        """Check the event loop; have the process replaced if it is stuck."""
        if self.loop and self.pinged_at is None and self.loop.is_running():
            self.pinged_at = now
            with suppress(RuntimeError):  # closed just now
                self.loop.call_soon_threadsafe(self.pong)
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
            # The server accepts no new requests, finishes the open ones, and ends. Its
            # supervisor starts a new process.
            os.kill(os.getpid(), signal.SIGTERM)

    def pong(self) -> None:
        """Run in the event loop, which shows that it is not blocked."""
        self.pinged_at = None

    def problem(self) -> str | None:
        """Return why this process is stuck, or None if it is not."""
        now = time.monotonic()
        running = self.loop and self.loop.is_running()
        if running and self.pinged_at and now - self.pinged_at > BLOCKED_AFTER:
            return f"The event loop has not run for {BLOCKED_AFTER} seconds: a view blocks."
        return next(filter(None, (pool.problem(now) for pool in tuple(self.pools))), None)


# All pools of this process that accept calls.
POOLS: list[Pool] = []
watchdog = Watchdog(POOLS)


def numbers() -> dict[str, dict[str, int]]:
    """Return the numbers of each pool of this process, by its name."""
    return {pool.name: pool.numbers() for pool in tuple(POOLS)}


def forget_threads() -> None:
    """Reset everything in a forked process, which has no threads."""
    watchdog.reset()
    for pool in tuple(POOLS):
        pool.reset()


def close_pools() -> None:
    """End the threads when the interpreter exits. Their calls are finished, and their
    connections are closed."""
    for pool in tuple(POOLS):
        pool.shutdown()


os.register_at_fork(after_in_child=forget_threads)
atexit.register(close_pools)
