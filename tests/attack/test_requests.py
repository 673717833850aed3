"""Requests, forms and the log."""

import json
import re
import socket
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.attack import EXPECTED, Mailbox, exchange, raw_get
from tests.services import wait_until
from tests.site import Site, next_frame, say

pytestmark = pytest.mark.serve

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


# What ends a line or a string for some program, and what a terminal obeys.
ODD_TEXT = '\\odd"}\n{"event": "forged"}\r\n\x1b[2J\x1b]0;x\x07\u202e\u2028\u2029\x85\x0b\x0c\'"'


def test_nothing_that_is_taken_makes_a_line_of_the_log(site: Site) -> None:
    """What people write and the site keeps, as it keeps it."""
    before = len(site.log)
    with site.browser("ada") as client:

        def post(path: str, status: int, **fields: Any) -> httpx.Response:
            """Send a form with what it was asked with, and see that it is taken."""
            token = token_of(client.get(path).text)
            answer = client.post(
                path,
                data=fields | {"csrfmiddlewaretoken": token},
                follow_redirects=False,
            )
            assert answer.status_code == status, answer.text
            return answer

        if site.project.is_(realtime="sse"):
            post("/notifications/", 302, text=ODD_TEXT)
        # A name of an account may have letters of any language, and no control characters.
        names = {"first_name": ODD_TEXT[:30], "last_name": ODD_TEXT[30:]}
        page = client.get("/admin/users/user/")
        number = re.findall(r"/admin/users/user/(\d+)/change/[^>]*>eve<", page.text)[0]
        joined = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
        fields = {"username": "eve", "email": "eve@example.com", "is_active": "on"}
        post(f"/admin/users/user/{number}/change/", 302, **fields, **names, **joined)
        # Local parts may be quoted, with blanks and odd characters in them.
        for mail in (f'"{ODD_TEXT}"@example.com', "o\u2028dd@example.com", '"o\\"d"@example.com'):
            token = client.cookies["csrftoken"]
            fields = {"email": mail, "csrfmiddlewaretoken": token}
            answer = client.post("/accounts/password_reset/", data=fields, follow_redirects=False)
        assert answer.status_code == 302, "the last one is an address"
        # A name that no client of these tests would send as it is.
        file = f"form-data; name=\"file\"; filename*=UTF-8''{quote(ODD_TEXT)}"
        body = f"--x\r\nContent-Disposition: {file}\r\n\r\nx\r\n--x--\r\n"
        client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
        client.headers["Content-Type"] = "multipart/form-data; boundary=x"
        kept = client.post("/probe/keep/?kind=txt", content=body)
        assert kept.status_code == 200, kept.text
        # What a view raises has it in its own words.
        climbing = f"/probe/keep/?kind={quote(ODD_TEXT)}/../x"
        assert client.post(climbing, content=body).status_code == 400
    if site.project.is_(realtime="channels"):
        with site.socket() as channel:
            say(channel, ODD_TEXT)
            assert next_frame(channel, "stored", "error")["type"] == "stored"
    last = raw_get(site, "/no/more/")
    request_id = re.findall(rb"(?i)x-request-id: (\w+)", last)[0].decode()
    wait_until(lambda: site.lines_of(request_id), "the access line is written")
    assert "forged" in site.log[before:]
    assert_lines(site.log[before:])


def assert_lines(log: str) -> None:
    """Check that each line is one object, and has nothing in it that is none to see."""
    # Not splitlines(), which would also part them where only some programs do.
    lines = log.removesuffix("\n").split("\n")
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert "forged" not in [json.loads(line)["event"] for line in lines]


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


# Of users/login.py: of one account, from one address.
ATTEMPTS = 10


def test_guesses_are_counted_and_hold_up_nobody_else(site: Site) -> None:
    """By all processes together where they share Redis, otherwise by each.

    These tests are on 127.0.0.1, which is trusted: they say for whom they ask.
    """
    processes = len(site.workers()) if site.project.is_(realtime="none") else 1

    def log_in(address: str, password: str, path: str = "/accounts/login/") -> httpx.Response:
        headers = {"X-Forwarded-For": address}
        with httpx.Client(base_url=site.origin, headers=headers, timeout=60) as client:
            fields = {"username": "eve", "password": password}
            fields["csrfmiddlewaretoken"] = token_of(client.get(path).text)
            return client.post(path, data=fields)

    refused, guesses = None, 0
    while refused is None and guesses <= ATTEMPTS * processes:
        guesses += 1
        path = ("/accounts/login/", "/admin/login/")[guesses % 2]
        answer = log_in("192.0.2.9", f"guess {guesses}", path)
        refused = answer if "Too many attempts" in answer.text else None
    assert refused, f"{guesses} guesses"
    assert guesses > ATTEMPTS
    if processes == 1:
        assert guesses == ATTEMPTS + 1
        assert "Too many attempts" in log_in("192.0.2.9", "password-of-eve").text
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


def test_log_is_clean(site: Site) -> None:
    site.assert_clean_log(EXPECTED)
