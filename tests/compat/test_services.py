"""Packages that work with others: a cache, workers, a mail server."""

from typing import Any

import pytest

from tests.compat.shop import Shop, row, word
from tests.services import wait_until

pytestmark = pytest.mark.compat


@row("django-redis")
def test_redis_cache(shop: Shop) -> None:
    """One cache for all processes, used by sync and by async views; a key's time to live."""
    for prefix in shop.prefixes:
        # The other with DEBUG: see test_debug_toolbar_and_the_async_cache.
        for view in ("cached",) if shop.debug else ("cached", "acached"):
            key = word()
            found = [shop.site.get(f"{prefix}/{view}/{key}/").json() for _ in range(8)]
            assert [answer["count"] for answer in found] == list(range(1, 9))
        assert 0 < shop.site.get(f"{prefix}/cached/{key}/").json()["ttl"] <= 60


def result_of(shop: Shop, start: str, result: str) -> list[Any]:
    """Start a task and return its result, which a worker has to bring."""
    key = shop.site.get(start).json()["id"]

    def ready() -> Any:
        return shop.site.get(f"{result}/{key}/").json()["ready"]

    # The first has to wait until its worker has started.
    wait_until(ready, f"the task of {start} is done", 120, pause=0.2)
    found: list[Any] = shop.site.get(f"{result}/{key}/").json()["result"]
    assert found[2] not in [process.pid for process in shop.site.note_family()]
    return found


@row("django-tasks-db")
def test_tasks(shop: Shop) -> None:
    """Tasks of Django's framework, from a sync and from an async view, done by db_worker."""
    for prefix in shop.prefixes:
        for start in (f"{prefix}/task/start/", f"{prefix}/atask/start/"):
            text = word()
            found, books, _ = result_of(shop, f"{start}{text}/", f"{prefix}/task/result")
            assert found == text
            assert books >= 2


@row("celery")
def test_celery(shop: Shop) -> None:
    """A task with a query goes through Redis to a worker, and its result comes back."""
    for prefix in shop.prefixes:
        text = word()
        found, books, _ = result_of(
            shop, f"{prefix}/celery/start/{text}/", f"{prefix}/celery/result"
        )
        assert found == text
        assert books >= 2


@row("django-anymail")
def test_anymail(shop: Shop) -> None:
    """A mail through anymail's own backend, named in MAILERS."""
    for prefix in shop.prefixes:
        subject = word()
        sent = shop.site.get(f"{prefix}/mail/{subject}/").json()
        assert sent == {"sent": 1, "status": ["sent"]}
        wait_until(lambda subject=subject: f"Subject: {subject}" in shop.site.log, "the mail")
