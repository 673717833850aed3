"""ASGI under more requests than it can answer at once: bounded threads, bounded connections."""

import asyncio
import random
import re
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.combinations import SITES, name_of
from tests.conftest import Prepare
from tests.project import Project
from tests.services import PostgreSQL, wait_until
from tests.site import COMMANDS, Site, running

pytestmark = pytest.mark.serve

COMBINATIONS = [answers for answers in SITES if answers["interface"] == "asgi"]


@pytest.fixture(
    scope="session", params=COMBINATIONS, ids=lambda answers: f"{name_of(answers)}-stress"
)
def site(
    request: pytest.FixtureRequest, prepared: Prepare, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    project, variables = prepared(request.param)
    log = tmp_path_factory.mktemp("stress") / "log"
    with running(project, COMMANDS["uvicorn"], log, "uvicorn", **variables) as site:
        yield site


async def statuses(site: Site, paths: list[str], leaves: float = 0) -> Counter[str]:
    """Request all paths at once; a share of `leaves` closes its connection before the answer.

    Return how often each status came; "" is none.
    """

    async def status(path: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        try:
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            if random.random() < leaves:
                await asyncio.sleep(random.random() * 0.02)
                return ""
            line = await reader.readline()
            return line.decode().split(" ")[1] if line else ""
        finally:
            writer.close()

    return Counter(await asyncio.gather(*map(status, paths)))


def test_waiting_views_hold_no_threads(site: Site) -> None:
    """Django as it ships has a thread for each of them. Pages are answered all the while."""
    threads: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            threads.extend(worker.num_threads() for worker in site.workers())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answered = asyncio.run(statuses(site, ["/async/wait/"] * 500 + ["/probe/query/"] * 50))
    finally:
        ended.set()
        watcher.join()

    assert answered == {"200": 550}
    # Some are for the pages; the rest are the interpreter's, the health checks' and the loop's.
    assert max(threads) < 100


ON_POSTGRESQL = pytest.mark.parametrize(
    "site",
    [answers for answers in COMBINATIONS if answers["database"] == "postgresql"],
    ids=lambda answers: f"{name_of(answers)}-stress",
    indirect=True,
)


@pytest.fixture
def ask_postgresql(
    site: Site, prepared: Prepare, request: pytest.FixtureRequest
) -> Callable[[str], str]:
    """Return a function that asks the server about the backends of the site's database."""
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    answers = {name: site.project.answers[name] for name in COMBINATIONS[0]}
    database = prepared(answers)[1]["DATABASE_URL"].rpartition("/")[2]

    def ask(what: str) -> str:
        where = f"from pg_stat_activity where datname = '{database}'"
        return postgresql.query(f"select {what} {where}", "postgres")

    return ask


@ON_POSTGRESQL
def test_connections_are_bounded_whoever_leaves(
    site: Site, ask_postgresql: Callable[[str], str]
) -> None:
    """10,000 requests, of which many are given up; views that fail; streams that stay."""
    bound = 100  # fewer than there are requests at once
    paths = ["/probe/query/", "/async/query/", "/async/failure/", "/no/such/page/"]
    seen = []
    with ExitStack() as stack:
        for _ in range(40):
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", site.port)))
            stream.sendall(b"GET /async/stream/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(50):
            answered = asyncio.run(statuses(site, paths * 50, leaves=0.3))
            assert set(answered) <= {"200", "404", "500", ""}
            seen.append(int(ask_postgresql("count(*)")))

    assert 0 < max(seen) <= bound
    # Everything that was lent came back.
    assert asyncio.run(statuses(site, ["/async/query/", "/probe/query/"] * 50)) == {"200": 100}
    assert int(ask_postgresql("count(*)")) <= bound


@ON_POSTGRESQL
def test_connections_that_the_server_closed_are_replaced(
    site: Site, ask_postgresql: Callable[[str], str]
) -> None:
    asyncio.run(statuses(site, ["/async/query/", "/probe/query/"] * 50))
    ask_postgresql("pg_terminate_backend(pid)")

    assert asyncio.run(statuses(site, ["/async/query/", "/probe/query/"] * 50)) == {"200": 100}


def test_pages_that_wait_keep_nobody_from_a_page(site: Site) -> None:
    """A view that waits for 3 seconds, far more of them at once than there are threads at first:
    the others are answered meanwhile."""
    slow_at_once = 20 * len(site.workers())
    with ThreadPoolExecutor(1) as background:
        slow = background.submit(asyncio.run, statuses(site, ["/probe/slow/"] * slow_at_once))
        quick = asyncio.run(statuses(site, ["/probe/query/", "/async/query/", "/health/live"] * 20))
        assert not slow.done()
        answered = slow.result(timeout=60)

    assert quick == {"200": 60}
    assert answered == {"200": slow_at_once}


def test_django_as_it_ships_is_one_switch_away(
    prepared: Prepare, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With connections that it does not leak, which it does where they are kept."""
    answers = {"interface": "asgi", "realtime": "none", "database": "postgresql"}
    project, variables = prepared(answers)
    copy = tmp_path / "site"
    shutil.copytree(project.path, copy, ignore=shutil.ignore_patterns(".venv"))
    (copy / ".venv").symlink_to(project.path / ".venv")
    settings = copy / "config/settings.py"
    text = settings.read_text()
    assert text.count("FAST_ASGI = True") == 1
    settings.write_text(text.replace("FAST_ASGI = True", "FAST_ASGI = False"))
    switched = Project(copy, project.answers)
    # Two of Django's middleware, and the stream of a file, warn under ASGI as they ship.
    variables = variables | {"WEB_CONCURRENCY": "1", "PYTHONWARNINGS": "default"}

    handler = "from config import asgi; print(type(asgi.django_application).__module__)"
    assert "django.core.handlers.asgi" in switched.must("python", "-c", handler, **variables)
    with running(switched, COMMANDS["uvicorn"], tmp_path / "log", "uvicorn", **variables) as site:
        paths = ["/", "/probe/query/", "/async/query/"]
        for _ in range(4):
            assert asyncio.run(statuses(site, paths * 10)) == {"200": 30}
        name = variables["DATABASE_URL"].rpartition("/")[2]
        postgresql: PostgreSQL = request.getfixturevalue("postgresql")
        backends = f"select count(*) from pg_stat_activity where datname = '{name}'"
        wait_until(lambda: int(postgresql.query(backends, "postgres")) <= 5, "they are closed")


def test_nothing_is_left_behind_in_the_log(site: Site) -> None:
    """What a view raised on purpose is there, and nothing of tasks and threads that went astray."""
    assert "never retrieved" not in site.log
    assert "never awaited" not in site.log
    assert not re.findall(
        r"\b(RequestAborted|CancelledError|Overloaded|InterfaceError)\b", site.log
    )
    assert site.stop() == 0
