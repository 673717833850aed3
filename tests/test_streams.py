"""The emitted streams on their production servers, while workers, Redis and clients go away."""

import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.combinations import SITES, name_of
from tests.conftest import FLAGS, Prepare
from tests.house import House
from tests.project import Project
from tests.services import missing, wait_until
from tests.site import COMMANDS, Site, cmdline, running
from tests.test_browser import AWAY, Visitor

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
# What stands in the log of a site whose Redis was away and whose workers were killed.
EXPECTED = r"Redis is away|died|upstream|reverse_proxy|aborting|Not Implemented"
# What notifications/ has, in seconds and streams.
PAUSE, PAUSE_WITH_REDIS, HEARTBEAT, MAX_STREAMS = 2, 15, 15, 10
TEXT = "Line one\nline two — 👋 <b>"


class Stream:
    """A stream of events, read in a thread as a browser reads it."""

    def __init__(self, site: Site, cookies: str, last: str = "") -> None:
        headers = {"Cookie": cookies} | ({"Last-Event-ID": last} if last else {})
        # No browser waits for longer than 40 seconds for a word.
        self.client = httpx.Client(timeout=40, verify=False)
        request = self.client.build_request("GET", f"{site.origin}/events/", headers=headers)
        self.response = self.client.send(request, stream=True)
        self.status = self.response.status_code
        self.socket = self.response.extensions["network_stream"].get_extra_info("socket")
        # The id that a browser sends when it comes back.
        self.last = last
        # Whether it came to its end, and was not cut off.
        self.complete = False
        self.blocks: Queue[dict[str, str] | None] = Queue()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        block: dict[str, str] = {}
        with suppress(httpx.HTTPError), closing(self.response):
            for line in self.response.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    block[name] = value
                elif block:
                    self.blocks.put(block)
                    block = {}
            self.complete = True
        self.blocks.put(None)

    def next(self, event: str, seconds: float = 5) -> dict[str, str] | None:
        """Return the next block of an event, None if the stream ends before; raise Empty if
        there is none in time."""
        deadline = time.monotonic() + seconds
        while block := self.blocks.get(timeout=max(0, deadline - time.monotonic())):
            self.last = block.get("id", self.last)
            if block.get("event", "") == event:
                return block
        return None

    def texts(self, count: int = 1, seconds: float = 5) -> list[str]:
        """Return the next notifications."""
        found = []
        for _ in range(count):
            block = self.next("notification", seconds)
            assert block, "the stream has ended"
            data = json.loads(block["data"])
            assert block["id"] == str(data["id"])
            found.append(data["text"])
        return found

    def end(self, seconds: float) -> bool:
        """Wait for the end and return whether it was one."""
        while self.next("notification", seconds):
            pass
        return self.complete

    def leave(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.reader.join(5)
        self.client.close()


class StreamHouse(House):
    """A house, and the streams that are open to it."""

    def __init__(
        self, project: Project, start: str, folder: Path, variables: dict[str, str]
    ) -> None:
        super().__init__(project, start, folder, variables)
        self.streams = ExitStack()

    def open(self, user: str = "ada", **options: Any) -> Stream:
        """Open a stream, which is left after the test."""
        stream = Stream(self.site, self.site.cookies_of(user), **options)
        self.streams.callback(stream.leave)
        return stream

    def open_in_both_processes(self) -> list[Stream]:
        """Open streams until both processes listen for hints: chance has it which of them
        takes a connection."""
        wait_until(lambda: self.subscribers() == 0, "nobody listens")
        streams: list[Stream] = []

        def both_listen() -> bool:
            stream = self.open()
            # One process may have as many as it takes from one person.
            assert stream.status in (200, 429)
            streams.extend([stream] if stream.status == 200 else [])
            return self.subscribers() == 2

        wait_until(both_listen, "both processes listen")
        return streams

    def resume(self, stream: Stream, seconds: float = 30) -> Stream:
        """Come back as a browser does: again and again, with the id of the last event."""
        found: list[Stream] = []

        def came_back() -> bool:
            with suppress(httpx.HTTPError):
                found.append(self.open(last=stream.last))
            return bool(found) and found[-1].status == 200

        wait_until(came_back, "the browser is back", seconds, pause=0.3)
        return found[-1]

    def texts(self, stream: Stream, count: int) -> list[str]:
        """Return the next notifications of a browser that comes back: after this stream, which
        has ended, and after each that ends again while the server restarts."""
        found: list[str] = []
        stream = self.resume(stream)
        while len(found) < count:
            block = stream.next("notification", seconds=10)
            if block:
                found.append(json.loads(block["data"])["text"])
            else:
                stream = self.resume(stream)
        return found

    def script(self, code: str) -> subprocess.Popen[str]:
        """Start a process that runs `code` with ada, bob and notify()."""
        code = (
            f"from {self.project.slug}.notifications.sending import notify\n"
            "from django.contrib.auth import get_user_model as model\n"
            "from django.db import transaction\n"
            "ada, bob = (model().objects.get(username=name) for name in ('ada', 'bob'))\n"
        ) + code
        return subprocess.Popen(
            ["python", "manage.py", "shell", "-v", "0", "-c", code],
            cwd=self.project.path,
            env=self.project.environment(**self.variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, *texts: str, user: str = "ada") -> None:
        """Send notifications in another process, each in a transaction."""
        sender = self.script(f"for text in {texts!r}: notify({user}, text)")
        assert sender.communicate(timeout=30)
        assert sender.returncode == 0

    def subscribers(self) -> int:
        """Return how many connections listen for hints."""

        def pubsub(*words: str) -> list[str]:
            return subprocess.run(
                ["redis-cli", "-p", str(self.redis_port), "pubsub", *words],
                stdout=subprocess.PIPE,
                text=True,
            ).stdout.split()

        names = pubsub("channels", f"{self.project.slug}-*.live")
        return sum(int(pubsub("numsub", name)[-1]) for name in names)

    def asgi_workers(self) -> list[int]:
        return [
            worker.pid
            for worker in self.site.workers()
            if any("spawn_main" in word for word in cmdline(worker))
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
    assert first.stdout
    assert first.stdout.readline() == "sent\n"
    second = house.script("print('ready', flush=True)\nnotify(ada, 'three')")
    assert second.stdout
    assert second.stdout.readline() == "ready\n"
    time.sleep(1)
    assert second.poll() is None
    assert stream.blocks.empty()

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
    assert "" in beat, "no comment"
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

    # Each worker is replaced when a new one is ready.
    assert stream.end(15)
    house.send("meanwhile", "after")
    assert house.texts(stream, 2) == ["meanwhile", "after"]
    wait_until(lambda: not before & set(house.asgi_workers()), "both workers are replaced")
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


def alone(prepared: Prepare, folder: Path) -> StreamHouse:
    """Return a house of one process, for what is the same in all combinations."""
    answers = {"interface": "asgi", "realtime": "sse", "database": "sqlite"}
    project, variables = prepared(answers)
    house = StreamHouse(project, "uvicorn", folder, variables)
    house.variables |= {"REDIS_URL": "", "WEB_CONCURRENCY": "1"}
    return house


def test_development_server_reloads_with_streams_open(prepared: Prepare, tmp_path: Path) -> None:
    house = alone(prepared, tmp_path)
    command = [*COMMANDS["uvicorn"], "--reload"]
    variables = house.variables | {"DJANGO_DEBUG": "true"}
    with (
        running(house.project, command, tmp_path / "log", **variables) as house.site,
        house.streams,
    ):
        stream = house.open()
        assert stream.next("")

        views = house.project.path / house.project.slug / "welcome" / "views.py"
        views.write_text(views.read_text())

        assert stream.end(10)
        house.send("meanwhile")
        assert house.texts(stream, 1) == ["meanwhile"]
        assert "Cancel" not in house.site.log


@contextmanager
def bad_gateway(port: int) -> Iterator[None]:
    """Answer everything on `port` with 502, as a proxy does whose server is away."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(502)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


# Before the page's own scripts: it counts its streams, and loses patience after 20 seconds.
COUNTING = """
    window.opened = 0;
    const wait = window.setTimeout;
    window.setTimeout = (call, pause) => wait(call, pause === 40000 ? 20000 : pause);
    window.EventSource = class extends EventSource {
        constructor(url) {
            super(url);
            window.opened += 1;
        }
    };
"""


@pytest.mark.browser
def test_page_shows_what_is_sent_while_it_is_open(prepared: Prepare, tmp_path: Path) -> None:
    house = alone(prepared, tmp_path)
    program = shutil.which("chromium") or missing("Chromium", "chromium")
    with house.server, sync_playwright() as playwright:
        house.start_site()
        visitor = Visitor(
            playwright.chromium.launch(executable_path=program, args=FLAGS), house.site
        )
        page = visitor.page
        page.add_init_script(COUNTING)
        state, items = page.locator("#state"), page.locator("#notifications li :last-child")
        visitor.log_in("ada")
        page.goto("/notifications/")
        expect(state).to_have_text("live")
        before = items.all_text_contents()

        page.get_by_label("Text").fill("from the form")
        page.get_by_role("button", name="Notify me").click()
        expect(items.first).to_have_text("from the form")
        house.send(TEXT)
        expect(items).to_have_text([TEXT, "from the form", *before])
        # A heartbeat is a word: this page waits for 20 seconds.
        page.wait_for_timeout(2 * HEARTBEAT * 1000 + 2000)
        assert page.evaluate("window.opened") == 1
        expect(state).to_have_text("live")
        visitor.assert_quiet()

        # Silence on a connection that stays open.
        [worker] = house.site.workers()
        worker.suspend()
        wait_until(lambda: page.evaluate("window.opened") == 2, "a second stream is opened", 25)
        worker.resume()
        expect(state).to_have_text("live")

        # An answer that is no stream is final to an EventSource.
        house.site.stop(seconds=15)
        expect(state).to_have_attribute("data-state", "offline")
        with bad_gateway(house.port):
            wait_until(lambda: page.evaluate("window.opened") > 3, "it tries again", 20)
        house.send("meanwhile")
        house.start_site()
        expect(state).to_have_text("live", timeout=40_000)
        expect(items).to_have_text(["meanwhile", TEXT, "from the form", *before])

        visitor.context.set_offline(True)
        visitor.context.set_offline(False)
        house.send("again")
        expect(items.first).to_have_text("again")

        tab = visitor.context.new_page()
        tab.goto("/")
        tab.get_by_role("button", name="Log out ada").click()
        expect(state).to_have_attribute("data-state", "ended", timeout=(HEARTBEAT + 10) * 1000)
        expect(state.get_by_role("link", name="Log in")).to_be_visible()
        visitor.assert_quiet(but_for=re.compile(f"{AWAY.pattern}|401"))
