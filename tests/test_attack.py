"""What somebody tries who means harm, against the production commands on real services.

What needs no server is in tests/inside/ (test_log_in.py, test_pages.py, serving/test_origins.py),
what needs a proxy in tests/proxies/.
"""

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, Page
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.combinations import SITES, name_of
from tests.conftest import Prepare
from tests.house import variables_of
from tests.services import wait_until
from tests.site import COMMANDS, Site, close_code, next_frame, running, say

pytestmark = pytest.mark.serve

STARTS = {
    ("wsgi", "none"): "gunicorn",
    ("asgi", "sse"): "uvicorn",
    ("both", "channels"): "no-proxy",
}
WAYS = [
    answers
    for answers in SITES
    if (answers["interface"], answers["realtime"]) in STARTS and answers["database"] == "postgresql"
]
# Of chat/limits.py.
SOCKETS_PER_USER = 20
ACCOUNT = (
    "from django.contrib.auth import get_user_model as model\n"
    "model().objects.filter(username='eve').delete()\n"
    "model().objects.create_user('eve', 'eve@example.com', 'password-of-eve')"
)


class Mailbox:
    """A mail server that takes connections, and says nothing."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(30)
        self.port = self.listener.getsockname()[1]


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    with mailbox.listener:
        yield mailbox


@pytest.fixture(scope="module", params=WAYS, ids=name_of)
def site(
    request: pytest.FixtureRequest,
    prepared: Prepare,
    tmp_path_factory: pytest.TempPathFactory,
    mailbox: Mailbox,
) -> Iterator[Site]:
    answers = request.param
    project, variables = prepared(answers)
    start = STARTS[answers["interface"], answers["realtime"]]
    folder = tmp_path_factory.mktemp(start)
    variables = variables_of(project, start, folder, variables)
    variables |= {"EMAIL_URL": f"smtp://127.0.0.1:{mailbox.port}"}
    project.must("python", "manage.py", "shell", "-v", "0", "-c", ACCOUNT, **variables)
    with running(project, COMMANDS[start], folder / "log", start, **variables) as site:
        yield site


def exchange(site: Site, request: bytes, seconds: float = 20) -> bytes:
    """Send bytes and return what comes back until the connection is closed, or is silent."""
    with socket.create_connection((site.host, site.port), timeout=seconds) as connection:
        connection.sendall(request)
        received = b""
        with suppress(TimeoutError, ConnectionError):
            while piece := connection.recv(65536):
                received += piece
        return received


def raw_get(site: Site, path: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    return exchange(site, "\r\n".join([*lines, "", ""]).encode("latin-1"))


OUTSIDE = [
    f"{root}{way}{file}"
    for root in ("/static/", "/media/", "/", "/static/admin/")
    for way in ("../", "%2e%2e/", "..%2f", "%2e%2e%2f", "..\\", "..%5c", "....//", "%252e%252e/")
    for file in (".env", "config/settings.py")
] + ["/static//etc/passwd", "/static/%2fetc/passwd", "//etc/passwd", "/.env", "/static/.env"]


def test_no_path_leads_out_of_the_static_files(site: Site) -> None:
    answers = {path: raw_get(site, path) for path in OUTSIDE}

    assert {answer[:12] for answer in answers.values()} <= {
        b"HTTP/1.1 400",
        b"HTTP/1.1 404",
        b"HTTP/1.1 301",
        b"HTTP/1.1 302",
    }
    for path, answer in answers.items():
        assert not re.search(rb"DJANGO_SECRET_KEY|BASE_DIR|root:", answer), path
        assert not re.search(rb"(?i)\nlocation: *(//|/\\\\|http)", answer), path


FORGED = '"}\n{"event": "forged"}\r\n\x1b[2J\x1b]0;x\x07\u202e'


HEADERS = (
    "User-Agent", "Cookie", "X-Request-ID", "X-Forwarded-For", "X-Forwarded-Proto", "Forwarded",
    "Referer", "Host", "Origin", "Last-Event-ID", "Sec-WebSocket-Protocol",
)  # fmt: skip


def refused_handshake(site: Site, header: str) -> bytes:
    """Ask for a socket as a page of another site would; return what comes back."""
    origin = () if header.startswith("Origin") else ("Origin: https://forged.example",)
    # Not that of raw_get().
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    lines = ["GET /ws/chat/forged/ HTTP/1.1", "Host: localhost", *upgrade, key, *origin, header]
    return exchange(site, "\r\n".join([*lines, "", ""]).encode("latin-1"), seconds=5)


def test_nothing_that_somebody_sends_makes_a_line_of_the_log(site: Site) -> None:
    before = len(site.log)
    encoded = "".join(f"%{byte:02x}" for byte in FORGED.encode())
    raw = FORGED.replace("\n", "").replace("\r", "").encode("utf-8").decode("latin-1")
    raw_get(site, f"/{encoded}/?{encoded}")
    raw_get(site, f"/accounts/login/?next={encoded}")
    # What no server refuses, for it has no control character in it.
    plain = re.sub(r"[\x00-\x1f]", "", raw)
    for header in HEADERS:
        for value in (raw, plain):
            raw_get(site, "/", f"{header}: {value}")
            raw_get(site, "/events/", f"{header}: {value}")
            refused_handshake(site, f"{header}: {value}")
    for method in (raw, plain, "FORGED", "GET'%0a%22!#$"):
        raw_get(site, "/", method=method)
    raw_get(site, f"/{raw}")
    exchange(site, f"GET / HTTP/1.1\r\nHost: {raw}\r\n\r\n".encode("latin-1"))
    exchange(site, FORGED.encode())
    with site.browser() as client:
        site.submit(client, "/accounts/login/", username=FORGED, password=FORGED)
        client.post("/accounts/login/", data={"username": FORGED, "csrfmiddlewaretoken": FORGED})
    if site.project.is_(realtime="channels"):
        site.refusal(path=f"/ws/{encoded}/")
        with site.socket() as channel:
            for text in (FORGED, json.dumps({"type": FORGED, "room": FORGED, "key": FORGED})):
                channel.send(text)
                next_frame(channel, "error")
    last = raw_get(site, "/no/more/")
    request_id = re.findall(rb"(?i)x-request-id: (\w+)", last)[0].decode()
    wait_until(lambda: site.lines_of(request_id), "the access line is written")

    lines = site.log[before:].splitlines()
    assert "forged" in site.log[before:]
    events = [json.loads(line)["event"] for line in lines]
    assert "forged" not in events
    assert all(line.isascii() and line.isprintable() for line in lines)
    reasons = {json.loads(line).get("refused", "") for line in lines}
    if site.project.is_(realtime="channels"):
        # What somebody wrote is one word of a line, and no more of it than that.
        [forged] = [reason for reason in reasons if reason.startswith("origin '\"}")]
        assert forged == f"origin {plain!r}"


def token_of(page: str) -> str:
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    return token[1]


def test_mail_with_a_new_password_does_not_hold_up_the_answer(site: Site, mailbox: Mailbox) -> None:
    """Whose account it is, and whether there is one, would be told by the time that it takes."""
    with site.browser() as client:
        answer = site.submit(client, "/accounts/password_reset/", email="eve@example.com")
        assert answer.url.path == "/accounts/password_reset/done/"
        # It is on its way. Had the answer waited for it, it would have been given up.
        connection, _ = mailbox.listener.accept()
        with connection:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)
            connection.settimeout(30)
            connection.sendall(b"220 mail\r\n")
            assert connection.recv(100).startswith((b"ehlo", b"EHLO"))


def test_guesses_are_counted_by_all_processes_and_hold_up_nobody_else(site: Site) -> None:
    """These tests are on 127.0.0.1, which is trusted: they say for whom they ask."""
    if not site.project.is_(realtime="channels"):
        return  # It takes a second of the processor for each guess.

    def log_in(address: str, password: str, path: str = "/accounts/login/") -> httpx.Response:
        headers = {"X-Forwarded-For": address}
        with httpx.Client(base_url=site.origin, headers=headers, timeout=60) as client:
            fields = {"username": "eve", "password": password}
            fields["csrfmiddlewaretoken"] = token_of(client.get(path).text)
            return client.post(path, data=fields)

    for number in range(10):
        path = ("/accounts/login/", "/admin/login/")[number % 2]
        assert "Too many" not in log_in("192.0.2.9", f"guess {number}", path).text
    refused = log_in("192.0.2.9", "password-of-eve")
    assert "Too many attempts" in refused.text
    assert log_in("192.0.2.10", "password-of-eve").status_code == 302
    request_id = refused.headers["X-Request-ID"]
    wait_until(lambda: site.lines_of(request_id), "the access line is written")
    [line] = site.lines_of(request_id)
    assert (line["refused"], line["client"]) == ("too many: log-in", "192.0.2.9")


# What a mail server says to these; to others it is "250 ok".
POST_ANSWERS = {"DATA": "354 go on", "QUIT": "221 bye"}


class Post:
    """Takes one message from a connection, as a mail server does."""

    def __init__(self, connection: socket.socket) -> None:
        self.text = ""
        with connection, connection.makefile("rw", encoding="utf-8", newline="") as stream:

            def answer(line: str) -> None:
                stream.write(f"{line}\r\n")
                stream.flush()

            connection.settimeout(30)
            answer("220 mail")
            while line := stream.readline():
                answer(POST_ANSWERS.get(line.strip().upper(), "250 ok"))
                if line.strip().upper() == "DATA":
                    while (line := stream.readline()).strip() != ".":
                        self.text += line
                    answer("250 ok")


def test_promises_of_pages_hold_in_production(site: Site, mailbox: Mailbox) -> None:
    """What tests/inside/ asks Django's client in many more ways, once for all of the site."""
    evil, chosen = "evil.example", "a" * 32
    with site.browser() as client:
        client.follow_redirects = False

        def post(path: str, **fields: str) -> httpx.Response:
            return site.submit(client, path, **fields)

        # A wrong password and an account that is none are one answer; so is a reset.
        wrong = [
            post("/accounts/login/", username=name, password="no") for name in ("bob", "nobody")
        ]
        assert [answer.status_code for answer in wrong] == [200, 200]
        said = {re.search(r"Please enter[^<]*", answer.text)[0] for answer in wrong}  # type: ignore[index]
        assert len(said) == 1
        resets = []
        for mail in ("nobody@example.com", "eve@example.com"):
            client.headers.update({"X-Forwarded-Host": evil, "Forwarded": f"host={evil}"})
            resets.append(post("/accounts/password_reset/", email=mail))
        assert len({(one.status_code, one.headers["Location"]) for one in resets}) == 1
        for name in ("X-Forwarded-Host", "Forwarded"):
            del client.headers[name]
        connection, _ = mailbox.listener.accept()
        text = Post(connection).text
        assert f"{site.origin}/accounts/reset/" in text
        assert evil not in text
        assert client.get("/", headers={"Host": evil}).status_code == 400

        # A session that somebody chose, and where to go after the log-in.
        client.cookies.set("sessionid", chosen, domain="localhost.local")
        token = token_of(client.get("/accounts/login/").text)
        before = client.cookies["csrftoken"]
        fields = {"username": "bob", "password": "password-of-bob", "next": f"//{evil}/"}
        entered = client.post("/accounts/login/", data=fields | {"csrfmiddlewaretoken": token})
        assert (entered.status_code, entered.headers["Location"]) == (302, "/")
        cookies = "\n".join(entered.headers.get_list("set-cookie"))
        [session] = re.findall(r"sessionid=(\w+);.*HttpOnly;.*SameSite=Lax", cookies)
        assert session != chosen
        assert before not in cookies

        # Pages for somebody are kept by nobody, and no form works without its token.
        page = client.get("/", headers={"Cookie": f"sessionid={session}"})
        assert "Log out" in page.text
        assert {"private", "no-store"} <= set(page.headers["Cache-Control"].split(", "))
        own = {"Cookie": f"sessionid={session}; csrftoken={'a' * 32}"}
        for path in ("/accounts/logout/", "/accounts/password_change/", "/admin/users/user/add/"):
            forged = client.post(path, headers=own, data={"csrfmiddlewaretoken": "b" * 32})
            assert forged.status_code == 403, path
            forged = client.post(
                path,
                headers=own | {"Origin": f"http://{evil}"},
                data={"csrfmiddlewaretoken": "a" * 32},
            )
            assert forged.status_code == 403, path


# WebSockets


def frame(opcode: int, payload: bytes = b"", *, first: int = 0x80, masked: bool = True) -> bytes:
    """Return a frame with `first` as the other bits of its first byte: 0x80 is the last one."""
    size = len(payload)
    mask = 0x80 if masked else 0
    if size < 126:
        length = struct.pack("!B", mask | size)
    elif size <= 0xFFFF:
        length = struct.pack("!BH", mask | 126, size)
    else:
        length = struct.pack("!BQ", mask | 127, size)
    # A mask of zeros changes nothing.
    return bytes([first | opcode]) + length + (bytes(4) if masked else b"") + payload


TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
BROKEN = {
    "not masked": (1002, frame(TEXT, b"{}", masked=False)),
    "compressed, which was not agreed on": (1002, frame(TEXT, b"x", first=0xC0)),
    "reserved bit": (1002, frame(TEXT, b"x", first=0x90)),
    "reserved opcode": (1002, frame(3)),
    "reserved control opcode": (1002, frame(11)),
    "continues nothing": (1002, frame(0, b"x")),
    "another message inside one": (1002, frame(TEXT, b"x", first=0) + frame(TEXT, b"x")),
    "ping in pieces": (1002, frame(PING, b"x", first=0)),
    "long ping": (1002, frame(PING, b"x" * 126)),
    "close without a code": (1002, frame(CLOSE, b"x")),
    "close with a code that is none": (1002, frame(CLOSE, struct.pack("!H", 1005))),
    "says that it is endless": (1009, b"\x81\xff" + struct.pack("!Q", 2**63 - 1) + bytes(4)),
    "too large": (1009, frame(TEXT, b"x" * 70_000)),
    "too large in pieces": (
        1009,
        frame(TEXT, b"x" * 40_000, first=0) + frame(0, b"x" * 40_000, first=0),
    ),
}
OFFERS = "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"


@contextmanager
def handshake(
    site: Site, *headers: str, host: str = "", origin: str = ""
) -> Iterator[tuple[socket.socket, bytes]]:
    """Open a WebSocket by hand; yield the connection and the answer."""
    host = host or f"{site.host}:{site.port}"
    lines = [
        "GET /ws/chat/frames/ HTTP/1.1", f"Host: {host}", "Upgrade: websocket",
        "Connection: Upgrade", f"Origin: {origin or f'http://{host}'}", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", f"Cookie: {site.cookies_of('ada')}",
        *headers,
    ]  # fmt: skip
    with socket.create_connection((site.host, site.port), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = connection.recv(1)
            assert piece, answer
            answer += piece
        yield connection, answer


def received(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield opcode and payload of what the site sends, until it closes the connection."""
    with connection.makefile("rb") as stream, suppress(ConnectionError):
        while head := stream.read(2):
            size = head[1] & 0x7F
            if size >= 126:
                size = int.from_bytes(stream.read(2 if size == 126 else 8))
            yield head[0] & 0x0F, stream.read(size)


def has_sockets(site: Site) -> bool:
    return site.project.is_(realtime="channels")


def test_compression_is_not_agreed_on(site: Site) -> None:
    if not has_sockets(site):
        return
    offers = (f"Sec-WebSocket-Extensions: {OFFERS}", "Sec-WebSocket-Protocol: x, y")
    with handshake(site, *offers) as (_, answer):
        assert answer.startswith(b"HTTP/1.1 101")
        assert not re.search(rb"(?i)extensions|-protocol:", answer)


def test_dot_behind_the_host_makes_no_difference_for_a_socket(site: Site) -> None:
    if not has_sockets(site):
        return
    for host in ("localhost.", f"localhost.:{site.port}"):
        with handshake(site, host=host) as (_, answer):
            assert answer.startswith(b"HTTP/1.1 101"), host
        for origin in ("http://localhost.example", "http://x.localhost.", "https://localhost."):
            with handshake(site, host=host, origin=origin) as (_, answer):
                assert answer.startswith(b"HTTP/1.1 403"), origin


def test_broken_frame_closes_its_own_socket_with_its_code(site: Site) -> None:
    if not has_sockets(site):
        return
    for kind, (code, sent) in BROKEN.items():
        with handshake(site) as (connection, _):
            connection.sendall(sent)
            closed = [payload for opcode, payload in received(connection) if opcode == CLOSE]
        assert [int.from_bytes(payload[:2]) for payload in closed] == [code], kind


def test_flood_of_control_frames_holds_up_nobody(site: Site) -> None:
    """Pings, and messages in pieces of nothing, while somebody else talks."""
    if not has_sockets(site):
        return
    flood = frame(PING, b"x" * 125) * 500 + frame(TEXT, b"{", first=0)
    flood += (frame(0, first=0) + frame(10, b"pong")) * 500
    with handshake(site) as (connection, _), site.socket(user="bob") as other:
        reader = threading.Thread(target=lambda: list(received(connection)), daemon=True)
        reader.start()
        for number in range(20):
            connection.sendall(flood if number == 0 else frame(PING) * 1000)
            if number % 5 == 0:
                say(other, f"and the others {number}?")
                assert next_frame(other, "stored")
        connection.sendall(frame(CLOSE, struct.pack("!H", 1000)))
        reader.join(60)
        assert not reader.is_alive()
    assert site.get("/").status_code == 200


def test_odd_frames_are_told_so_and_change_nothing(site: Site) -> None:
    if not has_sockets(site):
        return
    with site.socket(path="/ws/chat/odd/") as channel:
        for odd in (
            '{"type": "message", "key": "k", "text": "\\ud800"}',
            '{"type": "message", "key": "k", "text": "a\\u0000b"}',
            '{"type": "message", "key": "k\\n", "text": "x"}',
            '{"type": "message", "key": "k", "text": {"a": 1}}',
            '{"type": "message", "key": 1, "text": "x"}',
            '{"type": "message", "key": "k", "text": "\\u2028 "}',
            '{"type": "message", "room": "../admin", "key": "k", "text": "x"}',
            '{"type": "message", "room": "lobby\\n", "key": "k", "text": "x"}',
            '{"type": "message", "room": "elsewhere", "key": "k", "text": "x"}',
            '{"type": "enter", "room": "lobby*"}',
            '{"type": "stored", "id": 1}',
            '{"type": "__class__"}',
            '{"type": ["message"]}',
            '{"a": ' * 8_000 + "1" + "}" * 8_000,
            "[" * 60_000,
            "9" * 60_000,
            "null", "[]", '"message"', "", "NaN", "\ufeff{}",
        ):  # fmt: skip
            time.sleep(0.1)  # or it is too many frames
            channel.send(odd)
            assert next_frame(channel, "error", "stored")["type"] == "error", odd[:80]
        say(channel, "still here")
        assert next_frame(channel, "stored")


ODD_IDS = [
    "-1", "1e999", "-1e999", "NaN", "9" * 400, str(2**63), str(2**63 - 1), '"\u0663"', "true",
    '"-1"', '"1; drop table"', "[1]", "{}", "0.5",
]  # fmt: skip


def test_odd_ids_replay_this_room_or_nothing(site: Site) -> None:
    if not has_sockets(site):
        return
    with site.socket(path="/ws/chat/secret/", user="bob") as bob:
        say(bob, "said in another room")
        said = next_frame(bob, "stored")["id"]
    with site.socket(path="/ws/chat/replay/") as channel:
        say(channel, "said here")
        next_frame(channel, "stored")
        for after in [*ODD_IDS, str(said)]:
            channel.send(f'{{"type": "enter", "after": {after}}}')
            assert_heard_here_only(channel)
            time.sleep(0.2)  # or it is too many frames
    for after in [*ODD_IDS, str(said)]:
        with site.socket(path=f"/ws/chat/replay/?after={quote(after)}") as channel:
            assert_heard_here_only(channel)


def test_socket_that_is_one_too_many_may_speak_at_once(site: Site) -> None:
    """As a page does that has something to send: its socket is closed meanwhile."""
    if not has_sockets(site):
        return
    with ExitStack() as stack:
        for _ in range(SOCKETS_PER_USER):
            channel = stack.enter_context(site.socket(path="/ws/chat/many/", user="bob"))
            channel.send('{"type": "ping"}')
            next_frame(channel, "pong")
        for _ in range(5):
            with site.socket(path="/ws/chat/many/", user="bob") as channel:
                with suppress(ConnectionClosed):
                    for _ in range(3):
                        channel.send('{"type": "ping"}')
                assert close_code(channel) == 4429


def assert_heard_here_only(channel: ClientConnection) -> None:
    channel.send('{"type": "ping"}')
    while (heard := next_frame(channel, "message", "pong", "error"))["type"] != "pong":
        assert heard["type"] == "error" or heard["room"] == "replay"


def test_key_that_was_used_before_stores_nothing_and_is_nobody_elses(site: Site) -> None:
    if not has_sockets(site):
        return

    def send(channel: ClientConnection, room: str) -> int:
        message = {"type": "message", "room": room, "key": "same", "text": f"in {room}"}
        channel.send(json.dumps(message))
        return next_frame(channel, "stored")["id"]

    with site.socket(path="/ws/chat/keys/") as ada, site.socket(user="bob") as bob:
        first = send(ada, "keys")
        ada.send('{"type": "enter", "room": "lobby"}')
        assert send(ada, "keys") == send(ada, "lobby") == first
        assert send(bob, "lobby") != first


# What people see


EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>{{ 7*7 }} \u202eevil"


@contextmanager
def page_of(browser: Browser, site: Site, path: str) -> Iterator[tuple[Page, list[Any]]]:
    """Yield ada's page at `path`, and what ran in it that should not have."""
    alarms: list[Any] = []
    with browser.new_context() as context:
        cookies = dict(pair.split("=", 1) for pair in site.cookies_of("ada").split("; "))
        context.add_cookies(
            [{"name": n, "value": v, "url": site.origin} for n, v in cookies.items()]
        )
        page = context.new_page()
        page.on("dialog", lambda dialog: alarms.append(dialog.message) or dialog.dismiss())
        page.on("console", lambda said: alarms.append(said.text) if said.type == "error" else None)
        page.goto(site.origin + path)
        yield page, alarms


def test_what_people_write_is_text_and_turns_no_other(site: Site, browser: Browser) -> None:
    """As it stands in the page, and as it comes later."""
    if site.project.is_(realtime="none"):
        return
    with ExitStack() as stack:
        if site.project.is_(realtime="channels"):
            path, items = "/chat/evil/", "#log li span"
            bob = stack.enter_context(site.socket(path="/ws/chat/evil/", user="bob"))

            def write(text: str) -> None:
                say(bob, text)
                next_frame(bob, "stored")
        else:
            path, items = "/notifications/", "#notifications li span"
            ada = stack.enter_context(site.browser("ada"))

            def write(text: str) -> None:
                site.submit(ada, "/notifications/", text=text)

        write(EVIL)
        page, alarms = stack.enter_context(page_of(browser, site, path))
        # Then it comes over a connection that is open.
        page.locator("#state[data-state=live]").wait_for(state="attached")
        write(f"{EVIL} again")
        page.get_by_text("evil again").wait_for()

        # Other tests have written there, too.
        found = page.locator(items).filter(has_text="evil")
        assert {text.removesuffix(" again") for text in found.all_text_contents()} == {EVIL}
        assert found.count() == 2
        isolated = "elements => elements.map(one => getComputedStyle(one).unicodeBidi)"
        assert set(found.evaluate_all(isolated)) == {"isolate"}
        assert page.locator("main img, main script").count() == 0
        assert alarms == []


def test_notifications_are_for_one_person(site: Site) -> None:
    if not site.project.is_(realtime="sse"):
        return
    with site.browser("bob") as bob, site.browser("ada") as ada:
        site.submit(bob, "/notifications/", text="for bob\n\nevent: x\ndata: forged")
        others = re.search(r'data-user="(\d+)"', bob.get("/notifications/").text)
        assert others
        assert "for bob" not in ada.get("/notifications/").text
        assert ada.get("/events/", params={"user": others[1]}).status_code == 401
        for after in ("0", "-1", "9" * 18, "9" * 400, "1e3", "\u0663", "0\n", "0; drop table"):
            options: dict[str, Any] = {
                "params": {"after": after},
                "headers": {"Last-Event-ID": after.replace("\n", "").encode()},
            }
            with ada.stream("GET", "/events/", **options) as stream:
                lines = stream.iter_lines()
                assert next(lines).startswith("retry:")
                site.submit(ada, "/notifications/", text="for ada")
                heard = ""
                while "for ada" not in heard:
                    heard = next(lines)
                    assert "for bob" not in heard
        with bob.stream("GET", "/events/", params={"after": "0"}) as stream:
            for line in stream.iter_lines():
                assert line != "event: x"
                if "for bob" in line:
                    assert line.startswith("data: {")
                    break


def test_log_is_clean(site: Site) -> None:
    site.assert_clean_log(
        r"Forbidden \((CSRF|Origin)|Invalid (HTTP )?request|Failed to send password"
    )
