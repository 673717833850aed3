"""How jobs come to threads, and threads to their end: without running any."""

import time
from functools import partial
from queue import Empty
from typing import Any

import pytest

from serving import threads
from serving.threads import Job, PoolThread


def test_job_hands_over_what_comes_of_its_call() -> None:
    def leave() -> None:
        raise SystemExit

    before = time.monotonic()
    done, failed, given_up = jobs = [Job(lambda: 7), Job(leave), Job(leave)]
    assert all(before <= job.since <= time.monotonic() for job in jobs)
    given_up.future.cancel()
    for job in jobs:
        job.run()

    assert done.future.result(0) == 7
    assert isinstance(failed.future.exception(0), SystemExit)
    assert given_up.future.cancelled()


def test_thread_runs_jobs_until_there_is_none_and_closes_its_connections(
    state: Any, monkeypatch: Any
) -> None:
    done: list[int] = []
    closed: list[int] = []
    jobs = [Job(partial(done.append, number)) for number in range(3)]
    worker = PoolThread(state, 4)
    worker.inbox.put(jobs[0])
    rest = iter([*jobs[1:], None])
    monkeypatch.setattr(state, "next_job", lambda asking: asking is worker and next(rest))
    monkeypatch.setattr(threads.connections, "close_all", lambda: closed.append(1))
    worker.run()

    assert (done, closed) == ([0, 1, 2], [1])
    # Nobody waits for it when the interpreter ends: close_pools() does.
    assert (worker.name, worker.daemon) == ("state-4", True)


def test_job_is_taken_below_the_limit_only(state: Any) -> None:
    state.set(running=2, limit=2, waiting=2)
    assert state.take() is None

    state.limit = 3
    first = state.waiting[0]
    before = time.monotonic()
    assert state.take() is first
    assert (state.running, len(state.waiting)) == (3, 1)
    assert before <= state.freed_at <= time.monotonic()
    assert state.progress_at == 1000.0


def test_who_has_given_up_is_not_taken(state: Any) -> None:
    state.set(running=0, limit=2, waiting=3)
    state.waiting[0].future.cancel()
    second = state.waiting[1]

    assert state.take() is second
    assert state.running == 1


def test_all_idle_threads_get_jobs_when_they_may_run(state: Any) -> None:
    state.set(running=0, limit=2, waiting=3)
    workers = [PoolThread(state, number) for number in range(2)]
    state.idle = [*workers]
    jobs = list(state.waiting)
    state.dispatch()

    assert {worker.inbox.get_nowait() for worker in workers} == set(jobs[:2])
    assert (state.idle, state.running, state.threads) == ([], 2, 20)


def test_thread_takes_the_next_job_when_it_is_done_with_one(state: Any) -> None:
    state.set(running=2, limit=2, waiting=1)
    job = state.waiting[0]
    before = time.monotonic()

    assert state.next_job(PoolThread(state, 1)) is job
    assert (state.running, state.threads, state.idle) == (2, 20, [])
    assert before <= state.progress_at <= time.monotonic()
    assert before <= state.freed_at <= time.monotonic()


def test_thread_of_a_closed_pool_ends_with_the_last_job(state: Any) -> None:
    state.set(running=2, limit=2, waiting=1)
    state.closed = True
    worker = PoolThread(state, 1)
    before = time.monotonic()

    assert state.next_job(worker) is not None
    assert state.next_job(worker) is None
    assert (state.running, state.threads, state.idle) == (1, 19, [])
    assert before <= state.progress_at == state.freed_at


class Inbox:
    """Is empty when it is asked, but for the third time."""

    def __init__(self, job: Job, before: Any = None) -> None:
        self.job, self.before, self.asked = job, before, 0

    def get(self, timeout: float) -> Job:
        assert timeout == threads.IDLE_TIMEOUT
        if self.before:
            self.before()
        self.asked += 1
        if self.asked < 3:
            raise Empty
        return self.job


@pytest.mark.parametrize(("number", "ends"), [(3, True), (2, False)])
def test_idle_thread_ends_if_there_are_more_than_few(
    state: Any, number: int, ends: bool
) -> None:
    state.set(running=1, limit=2, threads=number)
    worker, job = PoolThread(state, 1), Job(int)
    worker.inbox = Inbox(job)  # type: ignore[assignment]

    assert state.next_job(worker) is (None if ends else job)
    assert (state.threads, state.running) == (2, 0)
    assert (worker in state.idle) is not ends


def test_thread_that_was_given_a_job_just_now_does_not_end(state: Any) -> None:
    """It is no longer among the idle ones: the job is on its way into its inbox."""
    state.set(running=1, limit=2, threads=9)
    worker, job = PoolThread(state, 1), Job(int)
    worker.inbox = Inbox(job, state.idle.clear)  # type: ignore[assignment]

    assert state.next_job(worker) is job
    assert state.threads == 9


def test_thread_that_rests_makes_room_for_another(state: Any) -> None:
    state.set(running=2, limit=2, waiting=2)
    worker = PoolThread(state, 1)
    state.idle.append(worker)
    job = state.waiting[0]
    before = time.monotonic()
    state.hold()

    assert worker.inbox.get_nowait() is job
    assert (state.running, state.threads) == (2, 20)
    assert before <= state.progress_at <= time.monotonic()

    state.resume()
    assert state.running == 3


def test_adopted_thread_is_counted_in_its_new_pool_and_leaves_room(state: Any) -> None:
    new = type(state)()
    new.set(running=5, limit=5, threads=19)
    state.set(running=2, limit=2, waiting=1)
    idle, worker = PoolThread(state, 1), PoolThread(state, 2)
    state.idle.append(idle)
    job = state.waiting[0]

    assert new.adopt(worker)
    assert (new.threads, new.started, new.running) == (20, 1, 6)
    assert (worker.pool, worker.name) == (new, "state-1")
    assert idle.inbox.get_nowait() is job
    assert (state.threads, state.running) == (19, 2)
    assert state.progress_at == 1000.0

    # There is no place for one more.
    assert not new.adopt(PoolThread(state, 3))
    assert (new.threads, new.started, new.running) == (20, 1, 6)
    assert (state.threads, state.running) == (19, 2)


def test_pool_whose_thread_moves_gets_on_even_if_nobody_waits(state: Any) -> None:
    new = type(state)()
    new.set(running=1, limit=2, threads=2)
    state.set(running=2, limit=2)
    before = time.monotonic()

    assert new.adopt(PoolThread(state, 1))
    assert before <= state.freed_at <= time.monotonic()
    assert (new.freed_at, new.progress_at, state.progress_at) == (1000.0,) * 3
