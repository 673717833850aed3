"""What the watchdog makes of what it sees, at times that are given."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from serving import threads
from serving.threads import (
    BLOCKED_AFTER,
    CHECK_INTERVAL,
    COMPUTING_CPU,
    KILL_AFTER,
    REPLACE_AFTER,
    STUCK_AFTER,
    SUSPENDED_AFTER,
    Watchdog,
)


class FakePool:
    """Notes with what it was adjusted."""

    def __init__(self, problem: str | None = None) -> None:
        self.has = problem
        self.progress_at = self.freed_at = 1000.0
        self.adjusted: list[tuple[float, float]] = []

    def adjust(self, cpu: float, now: float) -> None:
        self.adjusted.append((cpu, now))

    def problem(self, now: float) -> str | None:
        assert time.monotonic() - 20 < now <= time.monotonic()
        return self.has


class FakeLoop:
    """An event loop that answers when it is told to."""

    def __init__(self) -> None:
        self.running, self.closed = True, False
        self.calls: list[Callable[[], None]] = []

    def is_running(self) -> bool:
        return self.running

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        self.calls.append(call)


@pytest.fixture
def pool() -> FakePool:
    return FakePool()


@pytest.fixture
def watchdog(pool: FakePool) -> Watchdog:
    """One that has begun at 1000, after 50 seconds of CPU."""
    watchdog = Watchdog([pool])  # type: ignore[list-item]
    watchdog.start_measuring(1000.0, 50.0)
    return watchdog


@pytest.fixture
def loop(watchdog: Watchdog, monkeypatch: Any) -> Any:
    """The event loop that it watches; it has no thread."""
    monkeypatch.setattr(watchdog, "wake", lambda: None)
    loop = FakeLoop()
    watchdog.watch(loop)  # type: ignore[arg-type]
    return loop


@pytest.fixture
def signals(monkeypatch: Any) -> list[int]:
    """The signals that this process would have sent to itself."""
    sent: list[int] = []

    def kill(pid: int, number: int) -> None:
        assert pid == os.getpid()
        sent.append(number)

    monkeypatch.setattr(os, "kill", kill)
    return sent


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def stuck(watchdog: Watchdog, reason: str | None = "Stuck.") -> None:
    watchdog.problem = lambda: reason  # type: ignore[method-assign]


# How much CPU the process uses


def test_cpu_is_half_of_the_past_and_half_of_what_was_used(
    watchdog: Watchdog, pool: FakePool
) -> None:
    watchdog.check(1002.0, 50.5, 0)
    first = (COMPUTING_CPU + 0.25) / 2
    watchdog.check(1006.0, 53.5, 0)
    second = (first + 0.75) / 2

    assert [cpu for cpu, _ in pool.adjusted] == pytest.approx([first, second])
    assert [now for _, now in pool.adjusted] == [1002.0, 1006.0]


def test_two_looks_at_the_same_time_are_a_millisecond_apart(
    watchdog: Watchdog, pool: FakePool
) -> None:
    watchdog.check(1000.0, 50.001, 0)

    assert pool.adjusted[0] == pytest.approx(((COMPUTING_CPU + 1) / 2, 1000.0))


def test_process_that_gets_no_cpu_does_not_seem_to_wait(
    watchdog: Watchdog, pool: FakePool
) -> None:
    watchdog.check(1001.0, 50.0, CHECK_INTERVAL)
    assert pool.adjusted.pop() == (COMPUTING_CPU / 2, 1001.0)

    watchdog.check(1002.0, 50.0, CHECK_INTERVAL + 0.001)
    assert pool.adjusted.pop() == (COMPUTING_CPU, 1002.0)

    # What computes anyway is not made less.
    watchdog.cpu = 2.0
    watchdog.check(1003.0, 52.0, CHECK_INTERVAL + 0.001)
    assert pool.adjusted.pop() == (2.0, 1003.0)


# Suspension


def test_time_for_which_the_process_was_suspended_does_not_count(
    watchdog: Watchdog, pool: FakePool, loop: FakeLoop
) -> None:
    stuck(watchdog, None)
    watchdog.pinged_at = 999.0
    watchdog.check(1000.0 + SUSPENDED_AFTER, 50.0, 0)
    assert (pool.progress_at, pool.freed_at, watchdog.pinged_at) == (1000.0, 1000.0, 999.0)

    now = 1000.25 + 2 * SUSPENDED_AFTER
    watchdog.check(now, 50.0, 0)
    assert (pool.progress_at, pool.freed_at) == (now, now)
    # The event loop is asked anew.
    assert watchdog.pinged_at == now
    assert loop.calls == [watchdog.pong]


# Each minute


def test_something_is_called_once_a_minute(watchdog: Watchdog) -> None:
    calls = []
    watchdog.each_minute = lambda: calls.append(watchdog.checked_at)
    for second in range(1, 200):
        watchdog.check(1000.0 + second, 50.0, 0)

    assert calls == [1061.0, 1122.0, 1183.0]


def test_nothing_is_called_once_a_minute_where_nobody_asked_for_it(
    watchdog: Watchdog,
) -> None:
    watchdog.check(1061.0, 50.0, 0)

    assert watchdog.minute_at == 1000.0


# The event loop


def test_event_loop_that_answers_is_asked_again(watchdog: Watchdog, loop: FakeLoop) -> None:
    stuck(watchdog, None)
    watchdog.check_process(1001.0)
    # One question at a time.
    watchdog.check_process(1002.0)
    assert (watchdog.pinged_at, len(loop.calls)) == (1001.0, 1)

    loop.calls.pop()()
    assert (watchdog.pinged_at, loop.calls) == (None, [])
    watchdog.check_process(1003.0)
    assert (watchdog.pinged_at, len(loop.calls)) == (1003.0, 1)


def test_event_loop_that_does_not_run_is_not_asked(
    watchdog: Watchdog, loop: FakeLoop
) -> None:
    loop.running = False
    watchdog.check_process(1001.0)

    assert (watchdog.pinged_at, loop.calls) == (None, [])


def test_event_loop_that_was_closed_just_now_is_no_error(
    watchdog: Watchdog, loop: FakeLoop
) -> None:
    loop.closed = True
    stuck(watchdog, None)
    watchdog.check_process(1001.0)


def test_process_without_an_event_loop_asks_none(watchdog: Watchdog) -> None:
    watchdog.check_process(1001.0)

    assert watchdog.pinged_at is None
    assert watchdog.problem() is None


def test_another_event_loop_owes_no_answer(watchdog: Watchdog, loop: FakeLoop) -> None:
    stuck(watchdog, None)
    watchdog.check_process(1001.0)
    called = []
    watchdog.wake = lambda: called.append(1)  # type: ignore[method-assign]
    other: Any = FakeLoop()
    watchdog.watch(other)

    assert (watchdog.loop, watchdog.pinged_at, called) == (other, None, [1])


# What is a problem


@pytest.mark.parametrize(
    ("running", "seconds", "blocked"),
    [(True, 1, True), (True, -5, False), (False, 1, False)],
)
def test_event_loop_that_does_not_answer_is_a_problem(
    watchdog: Watchdog, loop: FakeLoop, running: bool, seconds: float, blocked: bool
) -> None:
    loop.running = running
    watchdog.pinged_at = time.monotonic() - BLOCKED_AFTER - seconds

    assert watchdog.problem() == (
        f"The event loop has not run for {BLOCKED_AFTER} seconds: a view blocks."
        if blocked
        else None
    )


def test_event_loop_that_has_answered_is_no_problem(
    watchdog: Watchdog, loop: FakeLoop
) -> None:
    assert watchdog.problem() is None


def test_problem_of_any_pool_is_one_of_the_process(loop: FakeLoop) -> None:
    pools: Any = [FakePool(), FakePool(problem="Full."), FakePool(problem="Full, too.")]

    assert Watchdog(pools).problem() == "Full."


# What is done about it


def test_process_that_is_stuck_is_told_and_then_replaced_and_then_killed(
    watchdog: Watchdog, signals: list[int], lines: list[Any]
) -> None:
    watchdog.replaces = True
    stuck(watchdog)
    watchdog.check_process(1000.0)
    (line,) = lines
    assert (line["log_level"], line["event"]) == ("error", "process is stuck")
    assert line["reason"] == "Stuck."
    assert {*threads.numbers()} <= {*line}

    watchdog.check_process(1000.0 + REPLACE_AFTER)
    assert (len(lines), signals) == (1, [])
    replaced_at = 1000.25 + REPLACE_AFTER
    watchdog.check_process(replaced_at)
    assert lines[1:] == [
        {"log_level": "error", "event": "process is replaced", "reason": "Stuck."}
    ]
    assert signals == [signal.SIGTERM]

    # It is told once; and whatever gets on meanwhile, it ends.
    watchdog.check_process(replaced_at + KILL_AFTER)
    stuck(watchdog, None)
    watchdog.check_process(replaced_at + KILL_AFTER)
    assert (len(lines), signals) == (2, [signal.SIGTERM])
    watchdog.check_process(replaced_at + KILL_AFTER + 0.25)
    assert (len(lines), signals) == (2, [signal.SIGTERM, signal.SIGKILL])


def test_process_that_gets_on_again_is_not_replaced(
    watchdog: Watchdog, signals: list[int], lines: list[Any]
) -> None:
    watchdog.replaces = True
    stuck(watchdog)
    watchdog.check_process(1000.0)
    stuck(watchdog, None)
    watchdog.check_process(1001.0)
    # The time begins anew.
    stuck(watchdog)
    watchdog.check_process(1010.0)
    watchdog.check_process(1010.0 + REPLACE_AFTER)

    assert [line["event"] for line in lines] == ["process is stuck"] * 2
    assert signals == []


def test_process_without_a_supervisor_is_not_ended(
    watchdog: Watchdog, signals: list[int], lines: list[Any]
) -> None:
    """Nobody would start another one: manage.py, a test, a script."""
    stuck(watchdog)
    for second in range(STUCK_AFTER):
        watchdog.check_process(1000.0 + second)

    assert [line["event"] for line in lines] == ["process is stuck"]
    assert signals == []


def test_each_look_is_at_the_process_too(watchdog: Watchdog, lines: list[Any]) -> None:
    stuck(watchdog)
    watchdog.check(1001.0, 50.0, 0)

    assert watchdog.stuck_at == 1001.0
