import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from django.contrib.auth import get_user_model

from serving import threads
from serving.threads import Job, Pool
{% if cookiecutter.__sse %}
from tests.browser import open_stream as open_stream
{% endif %}


@pytest.fixture
def ada(db: None) -> Any:
    """A person with an account; the password is the user name, twice."""
    return get_user_model().objects.create_user("ada", "ada@example.com", "adaada")


@pytest.fixture
def lines(monkeypatch: Any) -> Iterator[list[Any]]:
    """What is logged, in a world in which everything takes 250.16 milliseconds."""
    monkeypatch.setattr(time, "perf_counter", itertools.count(100, 0.25016).__next__)
    with structlog.testing.capture_logs() as lines:
        yield lines


class State(Pool):
    """A pool of 2 to 20 threads that are none: only their numbers are there."""

    def __init__(self) -> None:
        super().__init__("state", 2, 20)
        threads.POOLS.remove(self)

    def set(self, *, running: int, limit: int, waiting: int = 0, threads: int = 20) -> None:
        """Have calls run and wait since 1000, under a limit. Held threads take the rest."""
        self.running, self.limit, self.threads = running, limit, threads
        self.progress_at = self.freed_at = self.tried_at = 1000.0
        self.waiting.clear()
        for _ in range(waiting):
            self.waiting.append(Job(int))
            self.waiting[-1].since = 1000.0


@pytest.fixture
def state() -> State:
    return State()
