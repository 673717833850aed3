"""Pools have few threads while they compute, and more while these wait."""

import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import wait
from typing import Any

import pytest
import structlog

from serving import metrics, threads
from serving.threads import Overloaded, Pool


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool("test", 2, 20)
    yield pool
    pool.shutdown()


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_results_and_exceptions_arrive(pool: Pool) -> None:
    assert pool.submit(divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 7, 0).result(5)


def test_calls_one_after_the_other_need_one_thread(pool: Pool) -> None:
    names = set()
    for _ in range(9):
        names.add(pool.submit(lambda: threading.current_thread().name).result(5))
        wait_until(lambda: pool.idle)

    assert names == {"test-1"}


def test_threads_become_more_while_those_there_wait(pool: Pool) -> None:
    """Ten calls that wait for each other are done only if all of them run at once."""
    together = threading.Barrier(10)

    calls = [pool.submit(together.wait, 20) for _ in range(10)]

    assert sorted(call.result(30) for call in calls) == list(range(10))


def test_threads_stay_within_their_bound_and_all_calls_are_made(pool: Pool) -> None:
    seen = []

    def call() -> None:
        seen.append(pool.numbers()["threads"])
        time.sleep(0.05)

    wait([pool.submit(call) for _ in range(100)], 60)

    assert len(seen) == 100
    assert max(seen) <= 20


def test_threads_stay_few_while_they_compute(pool: Pool, monkeypatch: Any) -> None:
    """The watchdog measures the CPU of this whole process: here it is told."""
    monkeypatch.setattr(threads.watchdog, "wake", lambda: None)
    free = threading.Event()
    calls = [pool.submit(free.wait, 20) for _ in range(10)]
    pool.adjust(cpu=1.0, now=time.monotonic())

    assert pool.limit == 2
    free.set()
    wait(calls, 20)


def test_bound_shrinks_when_threads_compute(pool: Pool) -> None:
    pool.limit = 20
    for _ in range(20):
        pool.adjust(cpu=1.0, now=time.monotonic())

    assert pool.limit == 2


def test_who_waits_for_too_long_is_refused(pool: Pool, monkeypatch: Any) -> None:
    monkeypatch.setattr(threads, "MAX_WAIT", 0.1)
    pool.max_threads = pool.limit = 2
    free = threading.Event()
    calls = [pool.submit(free.wait, 20) for _ in range(2)]

    with pytest.raises(Overloaded):
        pool.submit(int).result(20)

    assert pool.numbers()["refused"] == 1
    free.set()
    assert [call.result(20) for call in calls] == [True, True]
    assert pool.submit(int).result(20) == 0


def test_call_that_is_given_up_is_not_made(pool: Pool) -> None:
    pool.max_threads = pool.limit = 1
    free = threading.Event()
    pool.submit(free.wait, 20)
    made: list[int] = []
    given_up = pool.submit(made.append, 1)
    assert given_up.cancel()
    last = pool.submit(made.append, 2)
    free.set()
    last.result(20)

    assert made == [2]


def test_what_was_taken_is_done_before_the_pool_is_closed(pool: Pool) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.1)
        done.append(number)

    for number in range(4):
        pool.submit(work, number)
    pool.shutdown()

    assert sorted(done) == [0, 1, 2, 3]


def test_numbers_are_in_the_log_while_there_is_something_to_tell(
    pool: Pool, monkeypatch: Any
) -> None:
    monkeypatch.setattr(threads, "POOLS", [pool])
    monkeypatch.setattr(metrics, "OPEN_COUNTS", Counter({"sockets": 0, "streams": 0}))
    with structlog.testing.capture_logs() as lines:
        metrics.log_numbers()
        assert lines == []

        metrics.OPEN_COUNTS["streams"] = 2
        metrics.log_numbers()

    (line,) = lines
    assert (line["event"], line["streams"], line["sockets"]) == ("load", 2, 0)
    assert line["test"]["waiting"] == 0


def test_threads_that_nobody_needs_end(pool: Pool, monkeypatch: Any) -> None:
    monkeypatch.setattr(threads, "IDLE_TIMEOUT", 0.05)
    together = threading.Barrier(10)
    wait([pool.submit(together.wait, 20) for _ in range(10)], 30)

    wait_until(lambda: pool.numbers()["threads"] == 2)


def test_full_pool_that_computes_without_end_is_a_problem_too(
    pool: Pool, monkeypatch: Any
) -> None:
    monkeypatch.setattr(threads, "MAX_WAIT", 1000)
    pool.max_threads = pool.limit = 2
    free = threading.Event()
    calls = [pool.submit(free.wait, 20) for _ in range(3)]
    now = time.monotonic()
    for second in range(threads.STUCK_AFTER + 2):
        pool.adjust(cpu=1.0, now=now + second)

    assert pool.problem(now + threads.STUCK_AFTER + 1) is not None
    free.set()
    wait(calls, 20)


def test_nobody_stands_in_line_behind_threads_that_wait(
    pool: Pool, monkeypatch: Any
) -> None:
    """After a crowd there is room for one more, however many threads wait."""
    monkeypatch.setattr(threads.watchdog, "wake", lambda: None)
    free = threading.Event()
    calls = [pool.submit(free.wait, 20) for _ in range(10)]
    pool.limit = 10
    pool.adjust(cpu=0.0, now=time.monotonic())
    for _ in range(20):
        pool.adjust(cpu=0.0, now=time.monotonic())

    assert pool.submit(int).result(5) == 0
    free.set()
    wait(calls, 20)


def test_full_pool_without_progress_is_a_problem(pool: Pool) -> None:
    pool.max_threads = pool.limit = 2
    free = threading.Event()
    calls = [pool.submit(free.wait, 20) for _ in range(3)]
    now = time.monotonic()

    assert pool.problem(now) is None
    # What a call of a held thread does is no progress for those who wait.
    pool.hold()
    pool.resume()
    assert "'test'" in (pool.problem(now + threads.STUCK_AFTER + 1) or "")
    free.set()
    wait(calls, 20)
    assert pool.problem(now + threads.STUCK_AFTER + 1) is None


def test_pool_that_is_closed_takes_no_calls(pool: Pool) -> None:
    pool.submit(int).result(5)
    pool.shutdown()

    with pytest.raises(RuntimeError):
        pool.submit(int)
    wait_until(lambda: pool.numbers()["threads"] == 0)


def test_threads_are_done_when_a_pool_is_closed(pool: Pool, monkeypatch: Any) -> None:
    """Each has closed its connections; one that cannot is no trouble."""
    closed_by = []

    def close_all() -> None:
        time.sleep(0.3)
        closed_by.append(threading.current_thread().name)
        raise OSError("broken")

    monkeypatch.setattr(threads.connections, "close_all", close_all)
    together = threading.Barrier(2)
    wait([pool.submit(together.wait, 20) for _ in range(2)], 30)
    wait_until(lambda: len(pool.idle) == 2)
    pool.shutdown()

    # Threads of other pools may end meanwhile.
    own = [name for name in closed_by if name.startswith("test-")]
    assert sorted(own) == ["test-1", "test-2"]
    assert pool not in threads.POOLS
    assert pool.numbers()["threads"] == 0
    pool.shutdown()  # nothing happens


def test_calls_that_wait_are_given_up_if_that_is_asked_for(pool: Pool) -> None:
    pool.max_threads = pool.limit = 1
    free = threading.Event()
    first = pool.submit(free.wait, 20)
    second, third = pool.submit(int), pool.submit(int)
    pool.shutdown(wait=False, cancel_futures=True)

    assert [second.cancelled(), third.cancelled()] == [True, True]
    assert not first.done()
    free.set()
    assert first.result(5)
    wait_until(lambda: pool.numbers()["threads"] == 0)


def test_calls_that_wait_are_not_given_up_otherwise(pool: Pool) -> None:
    pool.max_threads = pool.limit = 1
    free = threading.Event()
    calls = [pool.submit(free.wait, 20) for _ in range(3)]
    pool.shutdown(wait=False)
    free.set()

    assert [call.result(5) for call in calls] == [True, True, True]


def test_watchdog_is_called_by_who_has_to_wait(pool: Pool, monkeypatch: Any) -> None:
    called: list[int] = []
    monkeypatch.setattr(threads.watchdog, "wake", lambda: called.append(1))
    pool.max_threads = pool.limit = 1
    free = threading.Event()
    first = pool.submit(free.wait, 20)
    assert called == []

    second = pool.submit(free.wait, 20)
    assert called == [1]
    free.set()
    wait([first, second], 20)


def test_something_is_done_after_each_call() -> None:
    done: list[str] = []
    pool = Pool("test", 1, 1, after_call=lambda: done.append("after"))
    pool.submit(done.append, "call").result(5)
    assert done == ["call", "after"]

    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 7, 0).result(5)
    assert done == ["call", "after", "after"]
    assert pool.submit(divmod, 7, 2).result(5) == (3, 1)
    pool.shutdown()


def test_thread_that_is_idle_keeps_nothing_of_its_last_call(pool: Pool) -> None:
    class Request:
        def serve(self) -> None:
            pass

    request = Request()
    kept = weakref.ref(request)
    pool.submit(request.serve).result(5)
    del request

    wait_until(lambda: kept() is None)


def test_threads_of_a_pool_that_is_closed_end_with_their_calls(pool: Pool) -> None:
    free = threading.Event()
    call = pool.submit(free.wait, 20)
    pool.shutdown(wait=False)
    free.set()
    call.result(5)

    wait_until(lambda: pool.numbers()["threads"] == 0)


def test_machine_without_more_threads_goes_on_with_those_there_are(
    pool: Pool, monkeypatch: Any
) -> None:
    free = threading.Event()
    first = pool.submit(free.wait, 20)

    def fail(worker: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threads.PoolThread, "start", fail)
        second = pool.submit(int)
        numbers = pool.numbers()
        assert (numbers["threads"], numbers["running"], numbers["waiting"]) == (1, 1, 1)
        free.set()
        first.result(5)
        assert second.result(5) == 0

        without_threads = Pool("without threads", 1, 1)
        third = without_threads.submit(int)
        assert not third.done()

    # The watchdog has tried again.
    assert third.result(20) == 0
    without_threads.shutdown()


@pytest.mark.parametrize(("ago", "warns"), [(50, False), (70, True)])
def test_machine_without_more_threads_is_told_once_a_minute(
    pool: Pool, monkeypatch: Any, ago: float, warns: bool
) -> None:
    def fail(worker: Any) -> None:
        raise RuntimeError("can't start new thread")

    pool.warned_at = time.monotonic() - ago
    with monkeypatch.context() as patched:
        patched.setattr(threads.watchdog, "wake", lambda: None)
        patched.setattr(threads.PoolThread, "start", fail)
        with structlog.testing.capture_logs() as lines:
            calls = [pool.submit(int) for _ in range(2)]
            pool.dispatch()

    expected = {"log_level": "warning", "event": "cannot start more threads"}
    said = [line for line in lines if line.get("pool") == "test"]
    assert said == ([expected | {"pool": "test", "threads": 0}] if warns else [])
    # They have kept their places.
    with pool.lock:
        pool.dispatch()
    assert [call.result(20) for call in calls] == [0, 0]


def test_thread_that_moves_is_counted_where_it_is(pool: Pool) -> None:
    other = Pool("other", 1, 1)

    def move() -> tuple[bool, str, int, int]:
        worker: Any = threading.current_thread()
        moved = other.adopt(worker)
        return moved, worker.name, pool.numbers()["threads"], other.numbers()["threads"]

    assert pool.submit(move).result(5) == (True, "other-1", 0, 1)
    wait_until(lambda: other.numbers()["running"] == 0)
    # There is no place for a second one.
    assert pool.submit(move).result(5)[0] is False
    wait_until(lambda: pool.numbers()["running"] == 0)
    assert (pool.numbers()["threads"], other.numbers()["threads"]) == (1, 1)
    other.shutdown()
