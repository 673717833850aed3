"""Commands that tests run."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.services import ended, missing


def run(*command: object, **options: Any) -> str:
    """Run a command that has to succeed, and return its output and errors."""
    done = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=60, **options,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def program(name: str, package: str) -> str:
    return shutil.which(name) or missing(name, package)


@contextmanager
def process(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command, with its output added to the file `log`, until the end of the block."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **options
        )
    with ended(started):
        try:
            yield started
        except BaseException:
            print(log.read_text()[-10_000:])
            raise
