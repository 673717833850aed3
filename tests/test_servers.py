"""The emitted entry modules under other servers than the emitted ones (tests/servers.py).

What differs there is named, and whatever else differs is a fault. docs/servers.md is made of
what is found: `uv run pytest -n0 -m serve -k servers --write-tables`.
"""

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed

from tests.combinations import Answers, name_of
from tests.conftest import Bake
from tests.project import PRODUCTION, Project, uv
from tests.servers import SERVERS, Server
from tests.services import PostgreSQL, free_port, missing, wait_until
from tests.site import (
    Site,
    close_code,
    is_running,
    next_frame,
    prepare,
    probes_of,
    running,
    say,
    wait_for_exit,
)

pytestmark = pytest.mark.serve

CHANNELS = {"interface": "asgi", "realtime": "channels", "database": "postgresql"}
EVENTS = {"interface": "asgi", "realtime": "sse", "database": "postgresql"}
PAGES = {"interface": "wsgi", "realtime": "none", "database": "postgresql"}

# Two starts of each: one that is stopped at the end, and one of which a worker is killed.
STOPPED = [(CHANNELS if one.interface == "asgi" else PAGES, one) for one in SERVERS]
KILLED = [(EVENTS if one.interface == "asgi" else PAGES, one) for one in SERVERS]

FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 192.0.2.7",
    "X-Forwarded-Proto": "https",
    "X-Real-IP": "203.0.113.9",
    "X-Request-ID": "from-outside-1",
}

# Seconds in which a stream has ended when its server stops, with some to spare.
STOPPED_AFTER = 35

type Record = Callable[[str, set[str]], None]


@pytest.fixture(scope="session")
def equipped(
    bake: Bake, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Answers], tuple[Project, dict[str, str]]]:
    """Return a function that installs a combination, with the servers for it, only once."""

    @cache
    def equipped(name: str) -> tuple[Project, dict[str, str]]:
        answers = {name_of(one): one for one in (CHANNELS, EVENTS, PAGES)}[name]
        project = bake(**answers)
        project.install()
        wanted = {
            one.package
            for one in SERVERS
            if one.interface == answers["interface"]
            and (one.needs is None or shutil.which(one.needs[0]))
        } - {""}
        project.must(uv(), "pip", "install", "--quiet", *sorted(wanted))
        server: PostgreSQL = request.getfixturevalue("postgresql")
        variables = PRODUCTION | {
            "DJANGO_SETTINGS_MODULE": "probe_settings",
            "PYTHONPATH": str(probes_of(project)),
            "DJANGO_HTTPS": "false",
            "DATABASE_URL": server.new_database(),
            "MEDIA_ROOT": str(tmp_path_factory.mktemp("media")),
        }
        if not project.is_(realtime="none"):
            variables["REDIS_URL"] = request.getfixturevalue("redis")
        prepare(project, **variables)
        return project, variables

    return lambda answers: equipped(name_of(answers))


def start(request: Any, equipped: Any, folder: Any) -> Iterator[tuple[Server, Site]]:
    answers, server = request.param
    if server.needs and not shutil.which(server.needs[0]):
        missing(*server.needs)
    project, variables = equipped(answers)
    port = free_port(3)
    with running(
        project, server.words(port), folder.mktemp("server") / "log", server.name, port, **variables
    ) as site:
        yield server, site
        # Not asked once more: granian takes its time after a worker was killed.
        with suppress(psutil.NoSuchProcess):
            site.note_family()
        site.process.kill()


def names(starts: list[tuple[Answers, Server]]) -> list[str]:
    return [f"{name_of(answers)}-{server.id}" for answers, server in starts]


@pytest.fixture(scope="module", params=STOPPED, ids=names(STOPPED))
def started(request: Any, equipped: Any, tmp_path_factory: Any) -> Iterator[tuple[Server, Site]]:
    """Each server in turn. The tests run in their order; the last one stops it."""
    yield from start(request, equipped, tmp_path_factory)


@pytest.fixture(scope="module", params=KILLED, ids=names(KILLED))
def begun(request: Any, equipped: Any, tmp_path_factory: Any) -> Iterator[tuple[Server, Site]]:
    """Each server in turn. The last test kills a worker of it."""
    yield from start(request, equipped, tmp_path_factory)


def check(request: pytest.FixtureRequest, server: Server, looked_at: str, found: set[str]) -> None:
    """Compare what differs with what is known to, and record it for the table."""
    record = request.getfixturevalue("record_property")
    record("server", json.dumps([server.id, looked_at, sorted(found)]))
    assert found == server.differs.get(looked_at, set())


@pytest.fixture
def site(started: tuple[Server, Site]) -> Site:
    return started[1]


@pytest.fixture
def found(request: pytest.FixtureRequest, started: tuple[Server, Site]) -> Record:
    return lambda looked_at, found: check(request, started[0], looked_at, found)


def test_pages_forms_and_probes(site: Site, found: Record) -> None:
    interface = site.project.answers["interface"].upper()
    home = site.get("/")
    assert (home.status_code, f'<dd id="interface">{interface}</dd>' in home.text) == (200, True)
    assert "script-src 'self'" in home.headers["Content-Security-Policy"]
    head = httpx.head(site.origin, timeout=20)
    assert (head.status_code, head.content) == (200, b"")
    for path in ("/health/live", "/health/ready"):
        assert site.get(path, headers={"Host": "10.9.8.7"}).status_code == 200
    assert site.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert site.get("/no%00such/%ff/?a=%00").status_code == 404
    with site.browser("ada") as client:
        assert "Log out ada" in client.get("/").text
    # One id in answer, view and log; one access line.
    facts = site.get("/probe/facts/")
    request_id = facts.headers["X-Request-ID"]
    assert facts.json()["request_id"] == request_id
    wait_until(lambda: site.lines_of(request_id), "the access line is written")
    assert len(site.lines_of(request_id)) == 1
    found("pages", set() if '\n{"' in site.log else {"own words"})


def test_static_files(site: Site, found: Record) -> None:
    css = re.search(r'href="(/static/[^"]+\.css)"', site.get("/admin/login/").text)
    assert css
    packed = site.get(css[1], headers={"Accept-Encoding": "gzip"})
    plain = site.get(css[1], headers={"Accept-Encoding": "identity"})
    assert (packed.headers["Content-Encoding"], packed.content) == ("gzip", plain.content)
    assert "immutable" in packed.headers["Cache-Control"]
    etag = packed.headers["ETag"]
    assert site.get(css[1], headers={"If-None-Match": etag}).status_code == 304
    part = {"Range": "bytes=0-9", "Accept-Encoding": "identity"}
    assert site.get(css[1], headers=part).content == plain.content[:10]
    head = httpx.head(site.origin + css[1], timeout=20)
    assert (head.status_code, head.content) == (200, b"")
    root = site.project.path / "staticfiles"
    largest = max(root.rglob("*.js"), key=lambda file: file.stat().st_size)
    path = f"/static/{largest.relative_to(root)}"
    assert site.get(path, headers={"Accept-Encoding": "identity"}).content == largest.read_bytes()
    found("static files", set())


def test_uploads(site: Site, found: Record) -> None:
    body = os.urandom(5 * 1024**2)
    whole = {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
    address = f"{site.origin}/probe/upload/"

    def pieces(count: int) -> Iterator[bytes]:
        for number in range(count):
            yield body[number % 80 * 64 * 1024 :][: 64 * 1024]

    assert httpx.post(address, content=body, timeout=30).json() == whole
    kept = httpx.post(f"{site.origin}/probe/keep/?kind=txt", files={"file": body}, timeout=30)
    assert kept.status_code == 200
    refused = httpx.post(address, content=body * 2 + body[: 1024**2], timeout=30)
    assert (refused.status_code, "at most 10 MB" in refused.text) == (413, True)
    chunked = httpx.post(address, content=pieces(80), timeout=30)
    if chunked.status_code == 411:
        found("uploads", {"411"})
        return
    assert chunked.json() == whole
    assert httpx.post(address, content=pieces(192), timeout=30).status_code == 413
    found("uploads", set())


def test_client_is_told_by_a_trusted_proxy_only(site: Site, found: Record) -> None:
    """Who comes from 127.0.0.1 is a proxy, and from 127.0.0.2 is not."""
    differs = set()
    facts = site.get("/probe/facts/", headers=FORWARDED).json()
    assert (facts["address"], facts["secure"], facts["forwarded"]) == ("192.0.2.7", True, [])
    if facts["request_id"] != "from-outside-1":
        differs.add("new id")
    outside = httpx.HTTPTransport(local_address="127.0.0.2")
    for forged in (FORWARDED, {"X-Forwarded-SSL": "on"}, {"X-Forwarded-Protocol": "ssl"}):
        with httpx.Client(transport=outside, timeout=20) as client:
            url = f"http://127.0.0.1:{site.port}/probe/facts/"
            facts = client.get(url, headers=forged | {"Connection": "close"}).json()
        assert (facts["address"], facts["secure"]) == ("127.0.0.2", False)
        assert facts["request_id"] != "from-outside-1"
        assert "X-Forwarded-For" not in forged or facts["forwarded"] == []
        outside = httpx.HTTPTransport(local_address="127.0.0.2")
    found("client address", differs)


def test_sockets(site: Site, found: Record) -> None:
    if not site.project.is_(realtime="channels"):
        assert site.project.is_(interface="wsgi")
        return
    assert [
        site.refusal(),
        site.refusal(origin="https://evil.example"),
        site.refusal(user=None),
        site.refusal(path="/ws/no/such/socket/"),
    ] == [101, 403, 403, 403]
    differs = set()
    with site.socket() as ada, site.socket(user="bob") as bob:
        text = f"hello 👋 {uuid.uuid4()}"
        say(ada, text)
        stored = next_frame(ada, "stored")
        while (heard := next_frame(bob, "message"))["text"] != text:
            pass
        assert heard["id"] == stored["id"]
        ada.send(b"\x00\xff")
        next_frame(ada, "error")
        if "X-Request-ID" not in ada.response.headers:
            differs.add("no id")
    # They are not open any more to the site, either.
    wait_until(lambda: sockets_ended(site) == 3, "the ends of the sockets are in the log")
    with site.socket(path="/ws/chat/frames/") as socket:
        socket.send("x" * 70_000)
        closed = None
        try:
            next_frame(socket, "error")
            differs.add("large frames")
        except ConnectionClosed as error:
            closed = error.rcvd
        assert "large frames" in differs or (closed and closed.code == 1009)
    found("sockets", differs)


def sockets_ended(site: Site) -> int:
    lines = [json.loads(line) for line in site.log.splitlines() if line.startswith("{")]
    return sum(line["event"] == "websocket" and line.get("status") == 101 for line in lines)


def in_background(call: Callable[[], Any]) -> Future[Any]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call)
    pool.shutdown(wait=False)
    return future


def status_of(site: Site, path: str) -> int:
    try:
        return site.get(path).status_code
    except httpx.HTTPError:
        return 0


def test_sigterm(site: Site, found: Record) -> None:
    """With a request under way, and sockets of the chat and of the welcome page open."""
    differs = set()
    with ExitStack() as stack:
        sockets = []
        if site.project.is_(realtime="channels"):
            sockets = [
                stack.enter_context(site.socket()),
                stack.enter_context(site.socket(path="/ws/status/", user=None)),
            ]
        under_way = in_background(lambda: status_of(site, "/probe/slow/"))
        time.sleep(1)
        family = [process.pid for process in site.note_family()]

        site.stop(seconds=60)

        wait_for_exit(family[1:], 30)
        if under_way.result() != 200:
            differs.add("cut off")
        codes = {close_code(socket) for socket in sockets}
        if codes - {1012}:
            differs.add("no 1012")
    found("SIGTERM", differs)


def test_stream(begun: tuple[Server, Site], request: pytest.FixtureRequest) -> None:
    """Events come at once, and nothing is left of a stream whose client has gone."""
    server, site = begun
    cookies = {"Cookie": site.cookies_of("ada")}
    if server.interface == "wsgi":
        with httpx.stream("GET", f"{site.origin}/probe/stream/", timeout=20) as response:
            pieces = response.iter_raw()  # closes the response when it goes
            assert [next(pieces), next(pieces)]
            assert "the stream is closed" not in site.log
        wait_until(lambda: "the stream is closed" in site.log, "the stream is closed")
        check(request, server, "streams", set())
        return
    for path in ("/events/", "/async/stream/"):
        with httpx.stream("GET", site.origin + path, headers=cookies, timeout=20) as response:
            pieces = response.iter_raw()  # closes the response when it goes
            assert next(pieces)
            request_id = response.headers["X-Request-ID"]
            assert not site.lines_of(request_id)
        wait_until(lambda wanted=request_id: site.lines_of(wanted), "the stream ends")
    check(request, server, "streams", set())


def test_stream_of_events_ends_on_sigterm_and_a_killed_worker_is_replaced(
    begun: tuple[Server, Site], request: pytest.FixtureRequest
) -> None:
    server, site = begun
    if not server.supervises:
        if server.interface == "asgi":
            assert seconds_until_streams_end(site) < STOPPED_AFTER
        check(request, server, "worker killed", {"alone"})
        return
    before = {process.pid for process in site.note_family()[1:]}
    victim = site.get("/probe/facts/").json()["pid"]
    assert victim in before
    site.kill(victim)
    wait_until(
        lambda: len(running_children(site) - {victim}) >= len(before),
        "the killed worker is replaced",
        60,
    )
    wait_until(lambda: all(status_of(site, "/probe/facts/") == 200 for _ in range(10)), "answers")
    check(request, server, "worker killed", set())
    if server.interface == "asgi":
        assert seconds_until_streams_end(site) < STOPPED_AFTER


def running_children(site: Site) -> set[int]:
    children = psutil.Process(site.process.pid).children(recursive=True)
    return {child.pid for child in children if is_running(child.pid)}


def seconds_until_streams_end(site: Site) -> float:
    """Stop the server with a stream of events open, and return how long the stream goes on.

    It has a heartbeat, so one that nobody ends would go on for ever.
    """
    cookies = {"Cookie": site.cookies_of("ada")}
    with httpx.stream("GET", f"{site.origin}/events/", headers=cookies, timeout=30) as response:
        pieces = response.iter_raw()
        next(pieces)
        site.note_family()
        site.process.terminate()
        begun = time.monotonic()
        with suppress(httpx.RemoteProtocolError):  # cut off
            for _ in pieces:
                if time.monotonic() - begun > STOPPED_AFTER:
                    break
    return time.monotonic() - begun
