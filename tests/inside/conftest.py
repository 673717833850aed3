from typing import Any

import pytest
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
