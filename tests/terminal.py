"""A terminal with a command in it, and what a person does there.

Of the standard library alone: pexpect forks this process, which is not safe here, where
pytest-xdist has threads.
"""

import os
import pty
import re
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

# It makes its terminal the one whose Ctrl+C it gets, and becomes the command.
BEGIN = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
# What runs in the background ignores it, and so would its children.
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CONTROL_C = "\x03"
CONTROL_D = "\x04"
SECONDS = 60


class Terminal:
    """A terminal in which `command` runs in `folder`, with no environment but this one."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._keyboard, screen = pty.openpty()
        self._seen = b""
        self._answered = 0
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, *command], cwd=folder,
            env=environment | {"TERM": "xterm", "COLUMNS": "100"},
            stdin=screen, stdout=screen, stderr=screen, start_new_session=True,
        )  # fmt: skip
        os.close(screen)

    @property
    def text(self) -> str:
        """All that was on the screen until now, without colours."""
        return COLOURS.sub("", self._seen.decode()).replace("\r\n", "\n")

    def _read(self, deadline: float) -> bool:
        """Read what comes next; return whether there may be more."""
        ready, _, _ = select.select([self._keyboard], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"Nothing more in {SECONDS} seconds:\n{self.text}"
        try:
            data = os.read(self._keyboard, 65536)
        except OSError:  # Linux says it so when the other side is closed
            return False
        self._seen += data
        return bool(data)

    def type(self, keys: str, after: str) -> None:
        """Wait until `after` comes up and the command waits for keys, and type `keys`."""
        deadline = time.monotonic() + SECONDS
        while after not in self.text[self._answered :]:
            assert self._read(deadline), f"{after!r} never came:\n{self.text}"
        self._answered = self.text.index(after, self._answered) + len(after)
        self._wait_for_rest(deadline)
        os.write(self._keyboard, keys.encode())

    def seen(self, seconds: float) -> str:
        """Return all that is on the screen when some time has passed."""
        deadline = time.monotonic() + seconds
        while select.select([self._keyboard], [], [], max(0, deadline - time.monotonic()))[0]:
            if not self._read(deadline):
                break
        return self.text

    def _wait_for_rest(self, deadline: float) -> None:
        """Wait until all that runs in the terminal has slept for a while, or has ended.

        Python looks for a Ctrl+C before it waits for a key and after it: one that comes
        between the two is seen with the next key. No person is so quick.
        """
        rests = 0
        while rests < 5:
            assert time.monotonic() < deadline, f"It is busy for {SECONDS} seconds:\n{self.text}"
            rests = 0 if psutil.STATUS_RUNNING in self._states() else rests + 1
            time.sleep(0.02)

    def _states(self) -> set[str]:
        """Return what the processes do that a Ctrl+C would reach."""
        states = set()
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getpgid(process.pid) == os.tcgetpgrp(self._keyboard):
                    states.add(process.status())
        return states

    def wait(self) -> int:
        """Wait until the command ends, and return its exit status."""
        deadline = time.monotonic() + SECONDS
        while self._read(deadline):
            pass
        os.close(self._keyboard)
        return self.process.wait(timeout=SECONDS)
