"""When the overseer looks, and that it is one thread."""

import threading
import time
from typing import Any
from unittest.mock import Mock

import pytest
import structlog

from serving import threads
from serving.threads import Overseer


@pytest.fixture
def overseer() -> Overseer:
    """One that has nothing to look after."""
    return Overseer([])


def test_overseer_that_is_not_called_looks_when_the_first_pool_wants_it() -> None:
    pools: Any = [Mock(pause=lambda: 0.25), Mock(pause=lambda: 60)]
    overseer = Overseer(pools)
    started = time.monotonic()

    assert overseer.pause() == 0
    assert time.monotonic() - started > 0.2


def test_overseer_without_pools_looks_once_a_second(
    overseer: Overseer, monkeypatch: Any
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(overseer.woken, "wait", lambda pause: pauses.append(pause))
    overseer.pause()

    assert pauses == [1]


def test_overseer_that_is_called_gives_threads_a_moment(
    overseer: Overseer, monkeypatch: Any
) -> None:
    monkeypatch.setattr(overseer, "start", lambda: None)
    monkeypatch.setattr(threads, "TICK", 0.1)
    overseer.wake()
    started = time.monotonic()
    late = overseer.pause()
    passed = time.monotonic() - started

    assert passed >= 0.1
    assert 0 <= late <= passed - 0.1
    assert not overseer.woken.is_set()


def test_overseer_looks_again_and_again_and_survives_an_error(
    overseer: Overseer, monkeypatch: Any
) -> None:
    looks: list[tuple[float, float, float]] = []
    pauses = iter([1.5, 2.5])

    def look(*seen: float) -> None:
        looks.append(seen)  # type: ignore[arg-type]
        raise ZeroDivisionError

    monkeypatch.setattr(overseer, "check", look)
    monkeypatch.setattr(overseer, "pause", lambda: next(pauses))
    before, used = time.monotonic(), time.process_time()
    with structlog.testing.capture_logs() as lines, pytest.raises(StopIteration):
        overseer.run()

    assert before <= overseer.checked_at == overseer.minute_at <= looks[0][0]
    assert used <= overseer.used <= looks[0][1] <= time.process_time()
    assert [late for _, _, late in looks] == [1.5, 2.5]
    said = [(line["log_level"], line["event"]) for line in lines]
    assert said == [("error", "overseer goes on")] * 2
    assert all(line["exc_info"] for line in lines)


def test_overseer_is_one_thread_however_often_it_is_called(
    overseer: Overseer, monkeypatch: Any
) -> None:
    ends = threading.Event()
    started = []

    def run() -> None:
        started.append(threading.current_thread())
        ends.wait(20)

    monkeypatch.setattr(overseer, "run", run)
    for _ in range(3):
        overseer.wake()
    ends.set()
    assert overseer.thread
    overseer.thread.join(20)

    assert started == [overseer.thread]
    assert (overseer.thread.name, overseer.thread.daemon) == ("overseer", True)
    assert overseer.woken.is_set()


def test_machine_without_a_thread_for_the_overseer_gets_it_with_the_next_call(
    overseer: Overseer, monkeypatch: Any
) -> None:
    def fail(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(overseer, "run", lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        overseer.wake()
    assert overseer.thread is None
    assert overseer.woken.is_set()

    overseer.wake()
    assert overseer.thread is not None
