"""When the watchdog looks, and that it is one thread."""

import threading
import time
from typing import Any
from unittest.mock import Mock

import pytest
import structlog

from serving import threads
from serving.threads import Watchdog


@pytest.fixture
def watchdog() -> Watchdog:
    """One that has nothing to look after."""
    return Watchdog([])


def test_watchdog_that_is_not_called_looks_when_the_first_pool_wants_it() -> None:
    pools: Any = [Mock(pause=lambda: 0.25), Mock(pause=lambda: 60)]
    watchdog = Watchdog(pools)
    started = time.monotonic()

    assert watchdog.pause() == 0
    assert time.monotonic() - started > 0.2


def test_watchdog_without_pools_looks_once_a_second(
    watchdog: Watchdog, monkeypatch: Any
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(watchdog.woken, "wait", lambda pause: pauses.append(pause))
    watchdog.pause()

    assert pauses == [1]


def test_watchdog_that_is_called_gives_threads_a_moment(
    watchdog: Watchdog, monkeypatch: Any
) -> None:
    monkeypatch.setattr(watchdog, "start", lambda: None)
    monkeypatch.setattr(threads, "CHECK_INTERVAL", 0.1)
    watchdog.wake()
    started = time.monotonic()
    late = watchdog.pause()
    passed = time.monotonic() - started

    assert passed >= 0.1
    assert 0 <= late <= passed - 0.1
    assert not watchdog.woken.is_set()


def test_watchdog_looks_again_and_again_and_survives_an_error(
    watchdog: Watchdog, monkeypatch: Any
) -> None:
    looks: list[tuple[float, float, float]] = []
    pauses = iter([1.5, 2.5])

    def look(*seen: float) -> None:
        looks.append(seen)  # type: ignore[arg-type]
        raise ZeroDivisionError

    monkeypatch.setattr(watchdog, "check", look)
    monkeypatch.setattr(watchdog, "pause", lambda: next(pauses))
    before, used = time.monotonic(), time.process_time()
    with structlog.testing.capture_logs() as lines, pytest.raises(StopIteration):
        watchdog.run()

    assert before <= watchdog.checked_at == watchdog.minute_at <= looks[0][0]
    assert used <= watchdog.used <= looks[0][1] <= time.process_time()
    assert [late for _, _, late in looks] == [1.5, 2.5]
    said = [(line["log_level"], line["event"]) for line in lines]
    assert said == [("error", "watchdog goes on")] * 2
    assert all(line["exc_info"] for line in lines)


def test_watchdog_is_one_thread_however_often_it_is_called(
    watchdog: Watchdog, monkeypatch: Any
) -> None:
    ends = threading.Event()
    started = []

    def run() -> None:
        started.append(threading.current_thread())
        ends.wait(20)

    monkeypatch.setattr(watchdog, "run", run)
    for _ in range(3):
        watchdog.wake()
    ends.set()
    assert watchdog.thread
    watchdog.thread.join(20)

    assert started == [watchdog.thread]
    assert (watchdog.thread.name, watchdog.thread.daemon) == ("watchdog", True)
    assert watchdog.woken.is_set()


def test_machine_without_a_thread_for_the_watchdog_gets_it_with_the_next_call(
    watchdog: Watchdog, monkeypatch: Any
) -> None:
    def fail(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(watchdog, "run", lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        watchdog.wake()
    assert watchdog.thread is None
    assert watchdog.woken.is_set()

    watchdog.wake()
    assert watchdog.thread is not None
