"""What the overseer makes of what it sees, at times that are given."""

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
    COMPUTING_CPU,
    KILL_AFTER,
    REPLACE_AFTER,
    STUCK_AFTER,
    SUSPENDED_AFTER,
    TICK,
    Overseer,
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
def overseer(pool: FakePool) -> Overseer:
    """One that has begun at 1000, after 50 seconds of CPU."""
    overseer = Overseer([pool])  # type: ignore[list-item]
    overseer.start_measuring(1000.0, 50.0)
    return overseer


@pytest.fixture
def loop(overseer: Overseer, monkeypatch: Any) -> Any:
    """The event loop that it watches; it has no thread."""
    monkeypatch.setattr(overseer, "wake", lambda: None)
    loop = FakeLoop()
    overseer.watch(loop)  # type: ignore[arg-type]
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


def stuck(overseer: Overseer, reason: str | None = "Stuck.") -> None:
    overseer.problem = lambda: reason  # type: ignore[method-assign]


# How much CPU the process uses


def test_cpu_is_half_of_the_past_and_half_of_what_was_used(
    overseer: Overseer, pool: FakePool
) -> None:
    overseer.check(1002.0, 50.5, 0)
    first = (COMPUTING_CPU + 0.25) / 2
    overseer.check(1006.0, 53.5, 0)
    second = (first + 0.75) / 2

    assert [cpu for cpu, _ in pool.adjusted] == pytest.approx([first, second])
    assert [now for _, now in pool.adjusted] == [1002.0, 1006.0]


def test_two_looks_at_the_same_time_are_a_millisecond_apart(
    overseer: Overseer, pool: FakePool
) -> None:
    overseer.check(1000.0, 50.001, 0)

    assert pool.adjusted[0] == pytest.approx(((COMPUTING_CPU + 1) / 2, 1000.0))


def test_process_that_gets_no_cpu_does_not_seem_to_wait(
    overseer: Overseer, pool: FakePool
) -> None:
    overseer.check(1001.0, 50.0, TICK)
    assert pool.adjusted.pop() == (COMPUTING_CPU / 2, 1001.0)

    overseer.check(1002.0, 50.0, TICK + 0.001)
    assert pool.adjusted.pop() == (COMPUTING_CPU, 1002.0)

    # What computes anyway is not made less.
    overseer.cpu = 2.0
    overseer.check(1003.0, 52.0, TICK + 0.001)
    assert pool.adjusted.pop() == (2.0, 1003.0)


# Suspension


def test_time_for_which_the_process_was_suspended_does_not_count(
    overseer: Overseer, pool: FakePool, loop: FakeLoop
) -> None:
    stuck(overseer, None)
    overseer.pinged_at = 999.0
    overseer.check(1000.0 + SUSPENDED_AFTER, 50.0, 0)
    assert (pool.progress_at, pool.freed_at, overseer.pinged_at) == (1000.0, 1000.0, 999.0)

    now = 1000.25 + 2 * SUSPENDED_AFTER
    overseer.check(now, 50.0, 0)
    assert (pool.progress_at, pool.freed_at) == (now, now)
    # The event loop is asked anew.
    assert overseer.pinged_at == now
    assert loop.calls == [overseer.pong]


# Each minute


def test_something_is_called_once_a_minute(overseer: Overseer) -> None:
    calls = []
    overseer.each_minute = lambda: calls.append(overseer.checked_at)
    for second in range(1, 200):
        overseer.check(1000.0 + second, 50.0, 0)

    assert calls == [1061.0, 1122.0, 1183.0]


def test_nothing_is_called_once_a_minute_where_nobody_asked_for_it(
    overseer: Overseer,
) -> None:
    overseer.check(1061.0, 50.0, 0)

    assert overseer.minute_at == 1000.0


# The event loop


def test_event_loop_that_answers_is_asked_again(overseer: Overseer, loop: FakeLoop) -> None:
    stuck(overseer, None)
    overseer.check_process(1001.0)
    # One question at a time.
    overseer.check_process(1002.0)
    assert (overseer.pinged_at, len(loop.calls)) == (1001.0, 1)

    loop.calls.pop()()
    assert (overseer.pinged_at, loop.calls) == (None, [])
    overseer.check_process(1003.0)
    assert (overseer.pinged_at, len(loop.calls)) == (1003.0, 1)


def test_event_loop_that_does_not_run_is_not_asked(
    overseer: Overseer, loop: FakeLoop
) -> None:
    loop.running = False
    overseer.check_process(1001.0)

    assert (overseer.pinged_at, loop.calls) == (None, [])


def test_event_loop_that_was_closed_just_now_is_no_error(
    overseer: Overseer, loop: FakeLoop
) -> None:
    loop.closed = True
    stuck(overseer, None)
    overseer.check_process(1001.0)


def test_process_without_an_event_loop_asks_none(overseer: Overseer) -> None:
    overseer.check_process(1001.0)

    assert overseer.pinged_at is None
    assert overseer.problem() is None


def test_another_event_loop_owes_no_answer(overseer: Overseer, loop: FakeLoop) -> None:
    stuck(overseer, None)
    overseer.check_process(1001.0)
    called = []
    overseer.wake = lambda: called.append(1)  # type: ignore[method-assign]
    other: Any = FakeLoop()
    overseer.watch(other)

    assert (overseer.loop, overseer.pinged_at, called) == (other, None, [1])


# What is a problem


@pytest.mark.parametrize(
    ("running", "seconds", "blocked"),
    [(True, 1, True), (True, -5, False), (False, 1, False)],
)
def test_event_loop_that_does_not_answer_is_a_problem(
    overseer: Overseer, loop: FakeLoop, running: bool, seconds: float, blocked: bool
) -> None:
    loop.running = running
    overseer.pinged_at = time.monotonic() - BLOCKED_AFTER - seconds

    assert overseer.problem() == (
        f"The event loop has not run for {BLOCKED_AFTER} seconds: a view blocks."
        if blocked
        else None
    )


def test_event_loop_that_has_answered_is_no_problem(
    overseer: Overseer, loop: FakeLoop
) -> None:
    assert overseer.problem() is None


def test_problem_of_any_pool_is_one_of_the_process(loop: FakeLoop) -> None:
    pools: Any = [FakePool(), FakePool(problem="Full."), FakePool(problem="Full, too.")]

    assert Overseer(pools).problem() == "Full."


# What is done about it


def test_process_that_is_stuck_is_told_and_then_replaced_and_then_killed(
    overseer: Overseer, signals: list[int], lines: list[Any]
) -> None:
    overseer.replaces = True
    stuck(overseer)
    overseer.check_process(1000.0)
    (line,) = lines
    assert (line["log_level"], line["event"]) == ("error", "process is stuck")
    assert line["reason"] == "Stuck."
    assert {*threads.numbers()} <= {*line}

    overseer.check_process(1000.0 + REPLACE_AFTER)
    assert (len(lines), signals) == (1, [])
    replaced_at = 1000.25 + REPLACE_AFTER
    overseer.check_process(replaced_at)
    assert lines[1:] == [
        {"log_level": "error", "event": "process is replaced", "reason": "Stuck."}
    ]
    assert signals == [signal.SIGTERM]

    # It is told once; and whatever gets on meanwhile, it ends.
    overseer.check_process(replaced_at + KILL_AFTER)
    stuck(overseer, None)
    overseer.check_process(replaced_at + KILL_AFTER)
    assert (len(lines), signals) == (2, [signal.SIGTERM])
    overseer.check_process(replaced_at + KILL_AFTER + 0.25)
    assert (len(lines), signals) == (2, [signal.SIGTERM, signal.SIGKILL])


def test_process_that_gets_on_again_is_not_replaced(
    overseer: Overseer, signals: list[int], lines: list[Any]
) -> None:
    overseer.replaces = True
    stuck(overseer)
    overseer.check_process(1000.0)
    stuck(overseer, None)
    overseer.check_process(1001.0)
    # The time begins anew.
    stuck(overseer)
    overseer.check_process(1010.0)
    overseer.check_process(1010.0 + REPLACE_AFTER)

    assert [line["event"] for line in lines] == ["process is stuck"] * 2
    assert signals == []


def test_process_without_a_supervisor_is_not_ended(
    overseer: Overseer, signals: list[int], lines: list[Any]
) -> None:
    """Nobody would start another one: manage.py, a test, a script."""
    stuck(overseer)
    for second in range(STUCK_AFTER):
        overseer.check_process(1000.0 + second)

    assert [line["event"] for line in lines] == ["process is stuck"]
    assert signals == []


def test_each_look_is_at_the_process_too(overseer: Overseer, lines: list[Any]) -> None:
    stuck(overseer)
    overseer.check(1001.0, 50.0, 0)

    assert overseer.stuck_at == 1001.0
