"""Pools in a process that is forked, and in one that ends."""

import os
import subprocess
import sys
import time

import pytest

from serving import threads
from serving.threads import Pool

LAST_CALLS = """
import time
from serving.threads import Pool

pool = Pool("test", 1, 1)
for number in range(3):
    pool.submit(lambda number=number: (time.sleep(0.1), print(number)))
"""


def work_in_a_fork(pool: Pool) -> bool:
    """Return whether a process that was forked just now has threads that work."""
    return (
        threads.watchdog.thread is None
        and pool.numbers()["threads"] == 0
        and pool.submit(divmod, 7, 2).result(5) == (3, 1)
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_process_that_is_forked_has_threads_of_its_own() -> None:
    pool = Pool("test", 2, 20)
    pool.submit(int).result(5)
    while not pool.idle:
        time.sleep(0.01)
    threads.watchdog.start()
    child = os.fork()
    if not child:
        works = False
        # What pytest does at the end is not the child's.
        try:
            works = work_in_a_fork(pool)
        finally:
            os._exit(0 if works else 1)

    assert os.waitpid(child, 0)[1] == 0
    pool.shutdown()


def test_calls_that_were_taken_are_made_before_a_process_ends() -> None:
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", LAST_CALLS], capture_output=True, text=True, timeout=60
    )

    assert (ended.returncode, ended.stdout.split()) == (0, ["0", "1", "2"]), ended.stderr
