"""What a pool does in a given state: nobody else looks at it, and no time passes."""

from typing import Any

import pytest

from serving import threads
from serving.threads import (
    CHECK_INTERVAL,
    COMPUTING_CPU,
    MAX_WAIT,
    STALLED_AFTER,
    STUCK_AFTER,
    WAITING_CPU,
    Overloaded,
    PoolThread,
)

# Neither waits nor computes.
BETWEEN = (WAITING_CPU + COMPUTING_CPU) / 2


def test_numbers_fit_each_other_and_what_is_around_them() -> None:
    # The proxies give up after 60 seconds, and ask for readiness every 10; the servers give
    # 20 to what is under way.
    assert MAX_WAIT < 60 < STUCK_AFTER
    assert threads.REPLACE_AFTER > 10
    assert threads.KILL_AFTER > 20
    # A suspension is noticed before it counts for one of the others.
    assert 1 < threads.SUSPENDED_AFTER < threads.BLOCKED_AFTER < STUCK_AFTER
    assert 0 < CHECK_INTERVAL <= 0.1 < STALLED_AFTER <= 1
    # Of the one CPU that a process of Python has.
    assert 0 < WAITING_CPU < COMPUTING_CPU < 1


@pytest.mark.parametrize(("running", "limit"), [(2, 4), (3, 5), (5, 8), (8, 13)])
def test_threads_that_wait_become_half_as_many_more(
    state: Any, running: int, limit: int
) -> None:
    state.set(running=running, limit=running, waiting=9)
    state.adjust(WAITING_CPU - 0.01, 1000.0)

    assert state.limit == limit


def test_limit_that_is_not_reached_does_not_shrink_while_somebody_waits(
    state: Any,
) -> None:
    state.set(running=2, limit=15, waiting=9)
    state.adjust(0, 1000.0)

    assert state.limit == 15


@pytest.mark.parametrize("cpu", [WAITING_CPU, BETWEEN, COMPUTING_CPU])
def test_limit_stays_where_threads_neither_wait_nor_compute(state: Any, cpu: float) -> None:
    state.set(running=10, limit=10, waiting=9)
    state.adjust(cpu, 1000.0)

    assert state.limit == 10


@pytest.mark.parametrize(
    ("limit", "lower"), [(20, 17), (16, 13), (15, 13), (8, 6), (7, 6), (3, 2), (2, 2)]
)
@pytest.mark.parametrize("waiting", [0, 9])
def test_threads_that_compute_become_an_eighth_fewer(
    state: Any, limit: int, lower: int, waiting: int
) -> None:
    state.set(running=limit, limit=limit, waiting=waiting)
    state.adjust(COMPUTING_CPU + 0.01, 1000.0)

    assert state.limit == lower


@pytest.mark.parametrize(
    ("running", "limit", "then"),
    [
        (0, 2, 2),
        (2, 2, 3),
        (10, 10, 11),
        # What a crowd needed is given back in steps.
        (2, 20, 17),
        (16, 20, 17),
        (17, 20, 18),
        # There are no more than 20.
        (20, 20, 20),
    ],
)
@pytest.mark.parametrize("cpu", [0, BETWEEN, COMPUTING_CPU])
def test_there_is_room_for_one_more_when_nobody_waits(
    state: Any, running: int, limit: int, then: int, cpu: float
) -> None:
    state.set(running=running, limit=limit)
    state.adjust(cpu, 1000.0)

    assert state.limit == then


def test_limit_is_never_above_the_bound(state: Any) -> None:
    state.set(running=19, limit=19, waiting=9)
    state.adjust(0, 1000.0)

    assert state.limit == 20


def test_one_more_thread_is_tried_each_time_that_nothing_gets_on(state: Any) -> None:
    state.set(running=4, limit=4, waiting=9)
    state.adjust(BETWEEN, 1000.0 + STALLED_AFTER)
    assert (state.limit, state.tried_at) == (4, 1000.0)

    now = 1000.25 + STALLED_AFTER
    state.adjust(COMPUTING_CPU + 0.01, now)
    assert (state.limit, state.tried_at) == (5, now)

    # Not again before the same time has passed.
    state.running = 5
    state.adjust(BETWEEN, now + STALLED_AFTER)
    assert (state.limit, state.tried_at) == (5, now)
    state.adjust(BETWEEN, now + STALLED_AFTER + 0.25)
    assert (state.limit, state.tried_at) == (6, now + STALLED_AFTER + 0.25)


def test_one_more_thread_that_is_tried_takes_no_other_away(state: Any) -> None:
    state.set(running=4, limit=12, waiting=9)
    state.adjust(BETWEEN, 1001.0 + STALLED_AFTER)

    assert state.limit == 12


def test_something_that_got_on_is_no_standstill(state: Any) -> None:
    state.set(running=4, limit=4, waiting=9)
    state.progress_at = 1002.0

    assert state.stalled_since() == 1002.0
    state.adjust(BETWEEN, 1002.0 + STALLED_AFTER)
    assert state.limit == 4


def test_standstill_begins_with_the_first_who_waits(state: Any) -> None:
    state.set(running=4, limit=4)
    assert state.stalled_since() == float("inf")

    state.set(running=4, limit=4, waiting=2)
    state.waiting[0].since, state.waiting[1].since = 1003.0, 1004.0
    assert state.stalled_since() == 1003.0


def test_those_who_waited_for_longer_than_the_bound_are_refused(state: Any) -> None:
    state.set(running=2, limit=2, waiting=4)
    late, cancelled, just_in_time, last = state.waiting
    late.since = cancelled.since = 999.0
    cancelled.future.cancel()
    state.adjust(1, 1000.0 + MAX_WAIT)

    with pytest.raises(Overloaded, match="'state'") as caught:
        late.future.result(0)
    assert caught.value.pool is state
    assert list(state.waiting) == [just_in_time, last]
    assert state.refused == 1

    state.adjust(1, 1001.0 + MAX_WAIT)
    assert (len(state.waiting), state.refused) == (0, 3)


def test_who_has_given_up_leaves_the_line_however_short(state: Any) -> None:
    state.set(running=2, limit=2, waiting=3)
    for job in list(state.waiting)[:2]:
        job.future.cancel()
    state.adjust(1, 1000.0)

    assert (len(state.waiting), state.refused) == (1, 0)


def test_watchdog_looks_soon_where_somebody_waits(state: Any) -> None:
    state.set(running=2, limit=2, waiting=1)
    assert state.pause() == CHECK_INTERVAL
    state.set(running=0, limit=3)
    assert state.pause() == 10 * CHECK_INTERVAL
    state.set(running=0, limit=2)
    assert state.pause() == 1


@pytest.mark.parametrize(
    ("waiting", "threads", "running", "stuck"),
    [
        (1, 20, 20, True),
        (0, 20, 20, False),
        (1, 19, 19, False),
        # Most are held by requests that wait for something else: more threads would help.
        (1, 20, 10, True),
        (1, 20, 9, False),
    ],
)
def test_full_pool_whose_threads_run_without_end_is_a_problem(
    state: Any, waiting: int, threads: int, running: int, stuck: bool
) -> None:
    state.set(running=running, limit=20, waiting=waiting, threads=threads)

    assert (state.problem(1000.0 + STUCK_AFTER) is not None) == stuck
    assert state.problem(999.0 + STUCK_AFTER) is None


def test_pool_with_an_idle_thread_is_no_problem(state: Any) -> None:
    state.set(running=19, limit=19, waiting=1)
    state.idle.append(PoolThread(state, 1))

    assert state.problem(1001.0 + STUCK_AFTER) is None


def test_problem_says_which_pool_and_for_how_long(state: Any) -> None:
    state.set(running=20, limit=20, waiting=1)

    assert state.problem(1000.0 + STUCK_AFTER) == (
        f"No thread of 'state' became free for {STUCK_AFTER} seconds."
    )


def test_numbers_tell_held_threads_from_idle_ones(state: Any) -> None:
    state.set(running=3, limit=20, waiting=4, threads=9)
    state.idle.append(PoolThread(state, 1))
    state.refused = 7

    assert state.numbers() == {
        "threads": 9,
        "running": 3,
        "held": 5,
        "waiting": 4,
        "refused": 7,
    }
