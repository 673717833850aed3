"""Nothing is lost while workers, Redis and clients go away."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from queue import Empty

import pytest

from tests.combinations import SITES, name_of
from tests.conftest import Prepare
from tests.services import wait_until
from tests.site import COMMANDS, Site, cmdline
from tests.streams.house import (
    EXPECTED,
    HEARTBEAT,
    MAX_STREAMS,
    PAUSE,
    PAUSE_WITH_REDIS,
    TEXT,
    Stream,
    StreamHouse,
)

pytestmark = pytest.mark.serve

# Each combination, in one way or two; together they are all the ways that have streams.
STARTS = {
    "asgi-sse-sqlite": ["uvicorn"],
    "asgi-sse-postgresql": ["uvicorn"],
    "both-sse-sqlite": ["caddy", "no-proxy"],
    "both-sse-postgresql": ["caddy"],
}
WAYS = [
    (answers, start)
    for answers in SITES
    if answers["realtime"] == "sse"
    for start in STARTS[name_of(answers)]
]


@pytest.fixture(
    scope="module",
    params=WAYS,
    ids=[f"{name_of(answers)}-{start}-streams" for answers, start in WAYS],
)
def standing(
    request: pytest.FixtureRequest, prepared: Prepare, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StreamHouse]:
    """Each combination in turn, in its ways. The tests run in their order."""
    answers, start = request.param
    project, variables = prepared(answers)
    with StreamHouse(project, start, tmp_path_factory.mktemp("house"), variables) as house:
        yield house


@pytest.fixture
def house(standing: StreamHouse) -> Iterator[StreamHouse]:
    """The same house, without the streams of the test before."""
    with standing.streams:
        yield standing


def test_events_arrive_while_the_stream_is_open(house: StreamHouse) -> None:
    """Sent by a form, and by another process; through whatever is in front."""
    ada, bob = house.open(), house.open("bob")

    headers = ada.response.headers
    assert ada.status == 200
    assert headers["Content-Type"] == "text/event-stream"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Encoding"] in (None, "identity")
    opening = ada.next("")
    assert opening
    assert 1000 <= int(opening["retry"]) <= 3000

    with house.site.browser("ada") as browser:
        house.site.submit(browser, "/notifications/", text="from the form")
    assert ada.texts() == ["from the form"]
    house.send(TEXT)
    assert ada.texts() == [TEXT]
    house.send("for Bob", user="bob")
    assert bob.texts() == ["for Bob"]


def test_stream_is_for_who_is_logged_in(house: StreamHouse) -> None:
    site = house.site
    assert site.get("/events/").status_code == 401
    assert site.get("/notifications/").status_code == 302
    # What gunicorn answers, where a proxy that knows no ASGI_PATHS asks it.
    if house.project.is_(interface="both"):
        there = Site(house.project, site.process, site.port + 1, site.log_file, "gunicorn")
        there.sessions["ada"] = site.cookies_of("ada")
        assert Stream(there, there.cookies_of("ada")).status == 501


def test_every_process_hears_at_once(house: StreamHouse) -> None:
    """Sooner than the query would tell that finds what no hint told of."""
    streams = house.open_in_both_processes()

    house.send("one", "two")

    for stream in streams:
        assert stream.texts(2, seconds=PAUSE_WITH_REDIS / 3) == ["one", "two"]


def test_nothing_is_lost_between_transactions(house: StreamHouse) -> None:
    """The first to get an id is the last to commit, unless the second waits for it."""
    stream = house.open()
    assert stream.next("")
    first = house.script(
        "with transaction.atomic():\n"
        "    notify(ada, 'one')\n"
        "    print('sent', flush=True)\n"
        "    input()\n"
        "    notify(ada, 'two')\n"
    )
    with first:
        assert first.stdout
        assert first.stdout.readline() == "sent\n"
        with house.script("print('ready', flush=True)\nnotify(ada, 'three')") as second:
            assert second.stdout
            assert second.stdout.readline() == "ready\n"
            with pytest.raises(Empty):
                stream.texts(seconds=1)
            assert second.poll() is None

            first.communicate("go on\n", timeout=20)
            second.communicate(timeout=20)

    assert stream.texts(3) == ["one", "two", "three"]


def test_client_that_goes_away_frees_its_stream(house: StreamHouse) -> None:
    """The limit counts: so many streams open that one is refused, all of them dropped."""

    def open_until_refused() -> int:
        with ExitStack() as stack:
            for count in range(3 * MAX_STREAMS):
                stream = Stream(house.site, house.site.cookies_of("bob"))
                stack.callback(stream.leave)
                if stream.status != 200:
                    assert stream.status == 429
                    return count
        raise AssertionError("no stream was refused")

    # For each of two processes.
    assert MAX_STREAMS <= open_until_refused() <= 2 * MAX_STREAMS
    wait_until(lambda: open_until_refused() >= MAX_STREAMS, "they are free again", 5)


def test_stream_ends_soon_after_its_session(house: StreamHouse) -> None:
    with house.site.browser("ada") as browser:
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        stream, other = Stream(house.site, cookies), house.open()
        house.site.submit(browser, "/", to="/accounts/logout/")

    assert stream.end(HEARTBEAT + 5)
    beat = other.next("heartbeat", seconds=HEARTBEAT + 5)
    assert beat
    # Otherwise the browser would ask for what came after it.
    assert "id" not in beat
    assert Stream(house.site, cookies).status == 401


def test_killed_workers_lose_nothing(house: StreamHouse) -> None:
    stream = house.open()
    house.send("before")
    assert stream.texts() == ["before"]

    for pid in house.asgi_workers():
        house.site.kill(pid)
    # Cut off, unless a proxy makes an end of it.
    assert not stream.end(10) or house.start == "caddy"
    house.send("meanwhile", "after")

    assert house.texts(stream, 2) == ["meanwhile", "after"]


def test_reload_ends_streams_at_once_and_loses_nothing(house: StreamHouse) -> None:
    stream = house.open()
    assert stream.next("")
    before = set(house.asgi_workers())
    [supervisor] = [
        process for process in house.site.note_family() if "config.uvicorn_conf" in cmdline(process)
    ]

    supervisor.send_signal(signal.SIGHUP)

    # Each worker is replaced when a new one is ready, for which it may have 30 seconds.
    assert stream.end(60)
    house.send("meanwhile", "after")
    assert house.texts(stream, 2) == ["meanwhile", "after"]
    wait_until(lambda: not before & set(house.asgi_workers()), "both workers are replaced", 60)
    assert "Cancel" not in house.site.log


def test_redis_that_goes_and_comes_back_loses_nothing(house: StreamHouse) -> None:
    streams = house.open_in_both_processes()
    house.redis.close()

    house.send("without Redis")
    for stream in streams:
        assert stream.texts(seconds=5 * PAUSE) == ["without Redis"]
    house.start_redis()
    wait_until(lambda: house.subscribers() == 2, "both processes listen again")
    house.send("with Redis again")
    for stream in streams:
        assert stream.texts(seconds=PAUSE_WITH_REDIS * 2 / 3) == ["with Redis again"]


def test_sigterm_ends_streams_at_once_and_loses_nothing(house: StreamHouse) -> None:
    """And a site that starts again without Redis has all that one with it has, a bit later."""
    streams = [house.open() for _ in range(4)]
    assert all(stream.next("") for stream in streams)
    began = time.monotonic()

    status = house.site.stop(seconds=15)

    assert time.monotonic() - began < 10
    assert status == (143 if COMMANDS[house.start][0] == "just" else 0)
    # A proxy may be gone before it has passed the end on.
    assert all(stream.end(5) for stream in streams)
    assert "Cancel" not in house.site.log
    house.site.assert_clean_log(but_for=EXPECTED)

    house.send("meanwhile")
    cookies, killed = house.site.sessions, house.site.killed
    house.server.close()
    house.redis.close()
    house.start_site(REDIS_URL="")
    house.site.sessions, house.site.killed = cookies, killed
    back = [house.resume(stream) for stream in streams]
    for stream in back:
        assert stream.texts() == ["meanwhile"]
    house.send("one", "two")
    for stream in back:
        assert stream.texts(2, seconds=3 * PAUSE) == ["one", "two"]
    assert house.site.stop(seconds=15) == status
    house.site.assert_clean_log(but_for=EXPECTED)
