"""Each combination, started with its production commands and spoken to over TCP.

A site of `both` is started in every way it can run: each half by itself, and `just serve`
behind Caddy, and with no proxy on the machine.
"""

import json
import re
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from socket import create_connection
from typing import Any

import httpx
import pytest

from tests.combinations import SITES, name_of
from tests.conftest import Prepare
from tests.house import variables_of
from tests.services import wait_until
from tests.site import (
    COMMANDS,
    STARTS,
    Site,
    close_code,
    cmdline,
    next_frame,
    running,
    say,
    slow_request,
    wait_for_exit,
)

pytestmark = pytest.mark.serve

# What serves a page, and what answers for ASGI_PATHS, by the way the site is started.
PAGES = {
    "gunicorn": ("WSGI", "gunicorn"),
    "uvicorn": ("ASGI", "uvicorn"),
    "just-gunicorn": ("WSGI", "gunicorn"),
    "just-uvicorn": ("ASGI", "uvicorn"),
    "caddy": ("WSGI", "gunicorn"),
    "no-proxy": ("ASGI", "uvicorn"),
}
# What Django writes of the forms that it is to refuse.
REFUSED_FORMS = r"Forbidden \(CSRF token .*: /async/form/"


WAYS = [(answers, start) for answers in SITES for start in STARTS[answers["interface"]]]


@pytest.fixture(
    scope="session", params=WAYS, ids=[f"{name_of(answers)}-{start}" for answers, start in WAYS]
)
def site(
    request: pytest.FixtureRequest,
    prepared: Prepare,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """Each combination in turn, started in each of its ways. The tests run in their order;
    the last one stops it."""
    answers, start = request.param
    project, variables = prepared(answers)
    folder = tmp_path_factory.mktemp(start)
    variables = variables_of(project, start, folder, variables)
    with running(project, COMMANDS[start], folder / "log", start, **variables) as site:
        yield site


def test_home_page_tells_what_served_it(site: Site) -> None:
    response = site.get("/")
    interface, server = PAGES[site.start]

    assert response.status_code == 200
    assert f'<dd id="interface">{interface}</dd>' in response.text
    assert f"<dd>{server}/" in response.text
    database = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[site.project.answers["database"]]
    assert f"<dd>{database}</dd>" in response.text
    head = httpx.head(site.origin, verify=False)
    assert (head.status_code, head.content) == (200, b"")


def test_both_halves_answer_for_their_paths(site: Site) -> None:
    if not site.project.is_(interface="both"):
        assert site.get("/async/status/").status_code == 404
        return
    answer = site.get("/async/status/").json()

    assert answer["interface"] == ("WSGI" if site.start == "gunicorn" else "ASGI")


def test_static_files_are_cached_for_ever(site: Site) -> None:
    pages = [site.get("/").text, site.get("/admin/login/").text]
    files = [re.findall(r'(?:href|src)="(/static/[^"]+)"', page) for page in pages]
    assert all(files)
    assert any(name.endswith(".css") for name in files[1])

    for name in {name for found in files for name in found}:
        response = site.get(name, headers={"Accept-Encoding": "gzip"})
        assert response.status_code == 200, name
        assert re.search(r"\.[0-9a-f]{12}\.\w+$", name), f"{name} has no hash"
        assert "immutable" in response.headers["Cache-Control"]
        assert re.search(r"max-age=\d{8,}", response.headers["Cache-Control"])
        validator = response.headers["Last-Modified"]
        assert site.get(name, headers={"If-Modified-Since": validator}).status_code == 304
        partial = site.get(name, headers={"Range": "bytes=0-9", "Accept-Encoding": "identity"})
        assert (partial.status_code, len(partial.content)) == (206, 10)
    css = next(name for name in files[1] if name.endswith("css"))
    packed = site.get(css, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    etag = packed.headers["ETag"]
    assert site.get(css, headers={"If-None-Match": etag}).status_code == 304
    assert site.get(css, headers={"Range": "bytes=99999999-"}).status_code == 416
    assert httpx.post(site.origin + css, verify=False).status_code == 405
    head = httpx.head(site.origin + css, verify=False)
    assert (head.status_code, head.content) == (200, b"")
    # What serving/static_files.py mends: an ETag that a proxy made weak, a changed file.
    assert site.get(css, headers={"If-None-Match": f'"x", W/{etag}'}).status_code == 304
    changed = {"Range": "bytes=0-9", "If-Range": '"another"'}
    assert site.get(css, headers=changed).status_code == 200
    assert site.get("/static/no/such/file.css").status_code == 404
    assert site.get("/static/../config/settings.py").status_code == 404
    assert site.get("/static/%2e%2e/config/settings.py").status_code == 404


def test_unknown_page_is_404_without_a_trace(site: Site) -> None:
    response = site.get("/no/such/page/")

    assert response.status_code == 404
    assert "Page not found" in response.text
    assert "urlconf" not in response.text.lower()


def test_probes_answer_whatever_the_host(site: Site) -> None:
    for path in ("/health/live", "/health/ready"):
        response = site.get(path, headers={"Host": "10.9.8.7"})
        assert (response.status_code, response.json()["status"]) == (200, "ok")
    checks = {"process", "database", "cache"}
    if site.project.is_(realtime="channels"):
        checks |= {"channel_layer"}
    assert site.get("/health/ready").json()["checks"] == dict.fromkeys(checks, "ok")
    assert site.get("/", headers={"Host": "10.9.8.7"}).status_code == 400


def test_logging_in_through_the_form(site: Site) -> None:
    with site.browser("ada") as client:
        assert "Log out ada" in client.get("/").text
        assert client.get("/admin/").status_code == 200
        site.submit(client, "/", to="/accounts/logout/")
        assert "Log out" not in client.get("/").text


@pytest.mark.parametrize("path", ["/", "/async/wait/"], ids=["page", "async view"])
def test_pages_carry_their_policy(site: Site, path: str) -> None:
    headers = site.get(path).headers

    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


def test_async_view_takes_a_form_by_its_token_only(site: Site) -> None:
    with site.browser() as client:
        token = client.get("/async/form/").text

        for sent in ("", "a" * len(token)):
            fields = {"text": "hello", "csrfmiddlewaretoken": sent}
            assert client.post("/async/form/", data=fields).status_code == 403
        fields = {"text": "hello", "csrfmiddlewaretoken": token}
        taken = client.post("/async/form/", data=fields)
        assert (taken.status_code, taken.text) == (200, "hello")


def test_request_has_one_id_in_answer_view_and_log(site: Site) -> None:
    paths = ["/probe/facts/"]
    if site.project.is_(interface="both"):
        paths.append("/async/facts/")
    for path in paths:
        response = site.get(path)
        request_id = response.headers["X-Request-ID"]

        assert response.json()["request_id"] == request_id
        wait_until(lambda wanted=request_id: site.lines_of(wanted), "the access line is written")
        [line] = site.lines_of(request_id)
        assert (line["path"], line["status"], line["method"]) == (path, 200, "GET")
        assert line["client"] == "127.0.0.1"
        assert site.get(path).headers["X-Request-ID"] != request_id


def test_forwarded_headers_are_believed_from_a_proxy_only(site: Site) -> None:
    """These tests connect from 127.0.0.1, which is trusted: to a server they are its proxy.
    A proxy is asked from outside, and believes nobody."""
    headers = {
        "X-Forwarded-For": "203.0.113.9, 192.0.2.7",
        "X-Forwarded-Proto": "https",
        "X-Real-IP": "203.0.113.9",
        "X-Request-ID": "from-outside-1",
    }
    facts = site.get("/probe/facts/", headers=headers).json()

    assert facts["forwarded"] == []
    if site.start != "caddy":
        assert facts["address"] == "192.0.2.7"
        assert facts["secure"]
        assert facts["request_id"] == "from-outside-1"
    else:
        assert facts["address"] == "127.0.0.1"
        assert not facts["secure"]
        assert facts["request_id"] != "from-outside-1"


def test_no_header_moves_the_site_to_another_path(site: Site) -> None:
    """gunicorn believes SCRIPT_NAME from 127.0.0.1, unless told not to."""
    assert site.get("/moved/accounts/login/", headers={"SCRIPT_NAME": "/moved"}).status_code == 404
    page = site.get("/accounts/login/", headers={"SCRIPT_NAME": "/accounts"})
    assert (page.status_code, "/accounts/accounts" in page.text) == (200, False)


def test_websocket_is_refused_without_channels(site: Site) -> None:
    if site.project.is_(realtime="channels"):
        assert site.refusal() == (404 if site.start == "gunicorn" else 101)
        return
    assert site.refusal() in (403, 404)


def sockets(site: Site) -> bool:
    """Return whether `site` has WebSockets: tests of them assert the opposite elsewhere."""
    if site.project.is_(realtime="channels") and site.start != "gunicorn":
        return True
    assert site.refusal() in (403, 404)
    return False


@pytest.mark.parametrize(
    "reason",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://[::1"},
        {"origin": None},
        {"user": None},
        {"path": "/ws/no/such/socket/"},
        {"path": "/ws/"},
    ],
    ids=["other origin", "null origin", "no URL", "no origin", "no session", "no path", "no name"],
)
def test_websocket_is_refused(site: Site, reason: dict[str, Any]) -> None:
    if sockets(site):
        assert site.refusal() == 101
        assert site.refusal(**reason) == 403


def test_websocket_has_the_id_of_its_request(site: Site) -> None:
    if sockets(site):
        with site.socket() as socket:
            request_id = socket.response.headers["X-Request-ID"]
        wait_until(
            lambda: any(line["event"] == "websocket" for line in site.lines_of(request_id)),
            "the access line is written",
        )
        [line] = [line for line in site.lines_of(request_id) if line["event"] == "websocket"]
        assert (line["path"], line["status"], line["code"]) == ("/ws/chat/lobby/", 101, 1000)


def test_people_in_two_processes_hear_each_other(site: Site) -> None:
    if not sockets(site):
        return
    with ExitStack() as stack:
        ada = stack.enter_context(site.socket())
        bob = stack.enter_context(site.socket(user="bob"))
        if site.start == "caddy":
            # The proxy is at the other end of both; processes are told apart without one.
            attempts = 0
        else:
            attempts = 50
            here = site.worker_of(ada)
        for _ in range(attempts):
            if site.worker_of(bob) != here:
                break
            bob = stack.enter_context(site.socket(user="bob"))
        else:
            assert not attempts, "50 sockets landed on one process"
        for speaker, listener in ((ada, bob), (bob, ada)):
            text = f"hello 👋 {uuid.uuid4()}"
            say(speaker, text)
            heard = next_frame(listener, "message")
            while heard["text"] != text:
                heard = next_frame(listener, "message")
            assert next_frame(speaker, "stored")["id"] == heard["id"]


def test_unfit_frames_do_not_end_a_socket(site: Site) -> None:
    if not sockets(site):
        return
    with site.socket(path="/ws/chat/frames/") as socket:
        for frame in (
            "{",
            b"\x00\xff",
            "[" * 50_000,
            json.dumps({"type": "message", "key": "k", "text": "\0"}),
        ):
            socket.send(frame)
            next_frame(socket, "error")
        say(socket, "still here")
        assert next_frame(socket, "stored")


def test_oversized_frame_closes_its_socket_only(site: Site) -> None:
    if not sockets(site):
        return
    with site.socket() as other, site.socket(path="/ws/chat/frames/") as socket:
        socket.send("x" * 70_000)
        # A proxy may see the connection reset before it has passed the close frame on.
        expected = {1009, None} if site.start == "caddy" else {1009}
        assert close_code(socket) in expected
        say(other, "and the others?")
        assert next_frame(other, "stored")


def shares(site: Site, count: int) -> list[int]:
    """Open connections at once, ask on each, and return how many each worker has of them."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(create_connection((site.host, site.port), timeout=20))
            for _ in range(count)
        ]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert {client.recv(12) for client in clients} == {b"HTTP/1.1 200"}
        return [
            sum(
                connection.status == "ESTABLISHED" and connection.laddr.port == site.port
                for connection in worker.net_connections(kind="tcp")
            )
            for worker in site.workers()
        ]


def test_connections_that_come_at_once_are_shared(site: Site) -> None:
    """They are kept, and so is their sharing: a worker that has all leaves a processor idle.

    Chance has a part in it. With gunicorn's own worker the median is 0 to 8.
    """
    if "gunicorn" in site.start:
        found = [shares(site, 32) for _ in range(9)]
        assert {(len(one), sum(one)) for one in found} == {(2, 32)}
        assert statistics.median(min(one) for one in found) >= 10, found


def test_killed_worker_is_replaced(site: Site) -> None:
    """Even if it is killed while uvicorn asks after its health, which has 30 seconds for it."""
    before = {worker.pid for worker in site.workers()}
    # Two by WEB_CONCURRENCY, of each server that was started.
    assert len(before) == (4 if site.start in ("caddy", "no-proxy") else 2)
    one_of_each = {"spawn_main" in " ".join(cmdline(one)): one for one in site.workers()}
    for victim in one_of_each.values():
        victim.suspend()
        time.sleep(1)
        site.kill(victim.pid)

    killed = {victim.pid for victim in one_of_each.values()}
    wait_until(
        lambda: len({worker.pid for worker in site.workers()} - killed) == len(before),
        "the killed workers are replaced",
        seconds=15,
    )
    wait_until(lambda: site.answers_everywhere(), "the new workers answer")


def test_log_is_clean(site: Site) -> None:
    site.assert_clean_log(REFUSED_FORMS)


def test_sigterm_lets_a_request_finish_and_closes_sockets_with_1012(site: Site) -> None:
    has_sockets = sockets(site)
    with ExitStack() as stack:
        socket = stack.enter_context(site.socket()) if has_sockets else None
        workers = [worker.pid for worker in site.workers()]
        under_way = slow_request(site)

        status = site.stop(seconds=15)

        # `just` itself ends with 128 + 15 when it was told to end, whatever its recipe did.
        assert status == (143 if COMMANDS[site.start][0] == "just" else 0)
        assert under_way.result().status_code == 200
        assert under_way.result().json() == {"slept": 3}
        wait_for_exit([*workers, *site.family])
        if socket:
            assert close_code(socket) == 1012
    site.assert_clean_log(REFUSED_FORMS)
