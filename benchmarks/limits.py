"""Bounds for what is measured: in time, and in what it may leave behind."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil


class NoAnswerError(Exception):
    """Nothing, or not all that was asked for, came in time; says within what."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise NoAnswerError in the block if it takes longer; for the main thread, which waits."""

    def over(number: int, frame: FrameType | None) -> None:
        raise NoAnswerError(f"no end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def nothing_left() -> Iterator[None]:
    """End the processes that the block started, with all of theirs."""
    myself = psutil.Process()
    before = set(myself.children())
    try:
        yield
    finally:
        for child in set(myself.children()) - before:
            family = [child]
            with suppress(psutil.NoSuchProcess):
                family += child.children(recursive=True)
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, timeout=5)


def reason(error: BaseException) -> str:
    """Return in one line why there is no number."""
    # The first and the last line tell most: a command and the end of its traceback.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = " … ".join(dict.fromkeys((lines[0], lines[-1])))
    if len(text) > 300:
        text = f"{text[:200]} … {text[-100:]}"
    return text if isinstance(error, NoAnswerError) else f"failed: {text}"
