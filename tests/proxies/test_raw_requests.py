"""Limits, and requests that two servers may read in two ways: directly, and behind each proxy.

Raw bytes, as no client would send them. What is sent has a word in its path, and the request that
is hidden in it another: what the servers' logs have of these is what reached Django.
"""

import re
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests import raw, shapes
from tests.conftest import Bake, Prepare
from tests.proxies.front import PROXIES, Front, cookies_of, emitted, standing
from tests.proxies.network import DOMAIN, SITE
from tests.proxies.programs import ORIGIN

pytestmark = pytest.mark.deploy

# Both servers, and WebSockets. What is read of a request does not depend on the other answers.
ANSWERS = {"interface": "both", "realtime": "channels", "database": "sqlite"}


@pytest.fixture(scope="module", params=PROXIES, ids=lambda proxy: f"both-channels-sqlite-{proxy}")
def started(
    request: pytest.FixtureRequest,
    prepared: Prepare,
    bake: Bake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Front]:
    project, variables = prepared(ANSWERS)
    proxy, folder = request.param, tmp_path_factory.mktemp(request.param)
    with standing(project, variables, proxy, emitted(bake, ANSWERS, proxy), folder) as front:
        yield front


@dataclass(frozen=True, eq=False)
class Door:
    """A way in: of a proxy or of a server, to pages or to what is live."""

    front: Front
    name: str
    path: str
    number: int | None = None

    @property
    def direct(self) -> bool:
        return self.number is not None

    def say(self, data: bytes | list[bytes], **options: object) -> raw.Said:
        """Send bytes in which {H} is the host."""
        if self.number is not None:
            server = self.front.servers[self.number]
            return raw.say((server.host, server.port), data, **options)  # type: ignore[arg-type]
        return raw.say((SITE, 443), data, tls=self.front.trust, name=DOMAIN, **options)  # type: ignore[arg-type]

    def request(self, word: str, *headers: str, path: str = "") -> bytes:
        """Return a request that asks for an answer with `word` in it."""
        lines = [
            f"GET {path or self.path + word + '/'} HTTP/1.1", f"Host: {DOMAIN}",
            *(["X-Forwarded-Proto: https"] if self.direct else []), *headers,
        ]  # fmt: skip
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


def doors(front: Front) -> list[Door]:
    """Return the ways in of a site; nginx and Caddy have the same servers behind them."""
    found = [
        Door(front, f"{front.proxy} to gunicorn", "/probe/echo/"),
        Door(front, f"{front.proxy} to uvicorn", "/async/echo/"),
    ]
    if front.proxy == "nginx":
        found += [
            Door(front, "gunicorn", "/probe/echo/", 0),
            Door(front, "uvicorn", "/async/echo/", 1),
        ]
    return found


HANDSHAKE = (
    "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Origin: {ORIGIN}",
)  # fmt: skip
LINE, HEADERS, HEAD = 8 * 1024, 100, 16 * 1024
# What a proxy adds, at most.
ADDED, ADDED_LINES = 1024, 10


def of_length(request: bytes, padding: bytes, line: int, length: int) -> bytes:
    """Put `padding` in, so often that line number `line` has `length` bytes, its end included."""
    lines = request.split(b"\r\n")
    lines[line] = lines[line].replace(b"@", padding * (length - len(lines[line]) - 1))
    return b"\r\n".join(lines)


def test_each_limit_is_the_same_on_every_way_in(front: Front) -> None:
    for door in doors(front):
        added, added_lines = (0, 0) if door.direct else (ADDED, ADDED_LINES)

        def status(
            *headers: str, path: str = "", line: int = -1, length: int = 0, door=door
        ) -> int:  # type: ignore[no-untyped-def]
            data = door.request("limit", *headers, path=path)
            if length:
                data = of_length(data, b"a", line, length)
            said = door.say(data, until_closed=True)
            assert said.closed, door.name
            assert len(said.statuses) == 1, f"{door.name}: {said}"
            return said.statuses[0]

        path = f"{door.path}@/"
        header = 3 if door.direct else 2
        assert status(path=path, line=0, length=LINE) == 200, door.name
        assert status(path=path, line=0, length=LINE + 1) == 414, door.name
        assert status("X: @", line=header, length=LINE) == 200, door.name
        assert status("X: @", line=header, length=LINE + 1) == 431, door.name
        own = door.request("limit").count(b"\r\n") - 2
        many = [f"X-{number}: x" for number in range(HEADERS - own)]
        assert status(*many[added_lines:]) == 200, door.name
        assert status(*many, "X-1: x") == 431, door.name
        size = len(door.request("limit").partition(b"\r\n")[2]) - len("\r\n")
        room = HEAD - size - len("X: \r\nY: \r\nZ: \r\n") - 12_000
        rows = ["X: " + "x" * 6000, "Y: " + "x" * 6000]
        assert status(*rows, "Z: " + "x" * (room - added)) == 200, door.name
        assert status(*rows, "Z: " + "x" * (room + 1)) == 431, door.name
        # More than any proxy reads.
        assert status(*["X: " + "x" * 8000] * 30) == 431, door.name


def test_handshake_over_a_limit_is_answered_and_closed(front: Front) -> None:
    for door in doors(front):
        if "uvicorn" in door.name:
            for path, headers, status in (
                ("/ws/chat/lobby/", [], 403),
                ("/ws/chat/lobby/", ["Cookie: a=" + "a" * 8100], 403),
                ("/ws/chat/lobby/", ["Cookie: a=" + "a" * 8200], 431),
                ("/ws/chat/" + "a" * 9000, [], 414),
                ("/ws/chat/lobby/", [f"X-{number}: a" for number in range(140)], 431),
                ("/ws/chat/lobby/", ["Content-Length: 5"], None),
            ):
                data = door.request("", *headers, *HANDSHAKE, path=path)
                data = data.replace(b"Connection: close", b"Connection: Upgrade")
                # A proxy may keep its own connection.
                said = door.say(data + b"hello" * (status is None), until_closed=door.direct)
                assert said.closed or not door.direct, f"{door.name} {headers}: {said}"
                assert said.statuses, f"{door.name} {path[:99]} {headers}: {said}"
                assert status in (None, said.statuses[0]), f"{door.name} {path[:99]}: {said}"


def test_cookies_in_two_headers_are_all_read(front: Front) -> None:
    with front.browser("ada") as client:
        cookies = cookies_of(client).split("; ")
    for door in doors(front):
        said = door.say(door.request("x", "Cookie: a=1,2", "Cookie: b=3; c=4"))
        _, _, body = said.answers[0]
        assert b'"cookies": {"a": "1,2", "b": "3", "c": "4"}' in body, f"{door.name}: {body!r}"
        if "uvicorn" in door.name:
            for order in (cookies, cookies[::-1]):
                headers = [f"Cookie: {cookie}" for cookie in order]
                data = door.request("", *headers, *HANDSHAKE, path="/ws/chat/lobby/")
                data = data.replace(b"Connection: close", b"Connection: Upgrade")
                with suppress(OSError):
                    said = door.say(data, seconds=3)
                assert b"HTTP/1.1 101" in (said.rest or b"") or 101 in said.statuses, door.name


def test_form_through_a_forwarded_port_is_taken(front: Front) -> None:
    """As through a tunnel or a container's port: Host and Origin have it, the site has not."""
    for host in (f"{DOMAIN}:8443", DOMAIN.upper()):
        with front.browser() as client:
            client.headers.update({"Host": host, "Origin": f"https://{host}"})
            page = client.get("/accounts/login/")
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
            assert token, f"{host}: {page.status_code}"
            cookie = re.findall(r"csrftoken=(\w+)", page.headers["Set-Cookie"])[0]
            answer = client.post(
                "/accounts/login/",
                data={"username": "ada", "password": "no", "csrfmiddlewaretoken": token[1]},
                headers={"Cookie": f"csrftoken={cookie}"},
            )
            assert answer.status_code == 200, host


# Statuses by which a server says that it did not understand.
REFUSED = {400, 405, 408, 411, 414, 417, 431, 501, 505}


def test_no_shape_makes_two_requests_of_one(front: Front) -> None:
    """What Django answered was asked for, and the client has as many answers.

    A server that refuses closes the connection: what follows may be anything. Meanwhile others
    ask, and get their own answers.
    """
    ended = threading.Event()
    jobs = [(door, name) for door in doors(front) for name in shapes.SHAPES]
    words = {job: uuid.uuid4().hex for job in jobs}

    def send(job: tuple[Door, str]) -> raw.Said:
        door, name = job
        word = words[job]
        https = b"X-Forwarded-Proto: https\r\n" if door.direct else b""
        data = shapes.fill(
            shapes.SHAPES[name], f"{door.path}{word}/", f"{door.path}hidden-{word}/", DOMAIN, https
        )
        # A request that is not whole to its server is waited for, and the connection kept.
        return door.say(data, seconds=4, until_closed=True)

    def visit(path: str) -> list[str]:
        wrong = []
        with front.network.inside(), front.browser() as client:
            while not ended.is_set():
                word = uuid.uuid4().hex
                answer = client.get(f"{path}{word}/")
                if answer.status_code != 200 or answer.json()["word"] != word:
                    wrong.append(f"{path}{word}/: {answer.status_code} {answer.text[:100]}")
                ended.wait(0.05)
        return wrong

    def inside(job: tuple[Door, str]) -> raw.Said:
        with front.network.inside():
            return send(job)

    with ThreadPoolExecutor(2) as visitors, ThreadPoolExecutor(24) as pool:
        visits = [visitors.submit(visit, path) for path in ("/probe/echo/", "/async/echo/")]
        try:
            found = dict(zip(jobs, pool.map(inside, jobs), strict=True))
        finally:
            ended.set()
        assert [line for future in visits for line in future.result()] == []
    logs = "".join(server.log.read_text() for server in front.servers)
    wrong = []
    for job, said in found.items():
        door, name = job
        known = re.findall(rf'"path": "[^"]*?((?:hidden-)?{words[job]})', logs)
        if len(known) > len(said.statuses):
            wrong.append(f"{door.name}, {name}: Django was asked for {known}; {said}")
        # 502 is Caddy's word for a body that it cannot read.
        expected = REFUSED | ({502} if door.name.startswith("caddy") else set())
        if said.statuses and said.statuses[0] >= 500 and said.statuses[0] not in expected:
            wrong.append(f"{door.name}, {name}: {said}")
        if door.direct and set(said.statuses) & REFUSED and not (said.closed or known):
            wrong.append(f"{door.name}, {name}: refused, and not closed; {said}")
        if name == "one, and what is none" and said.statuses[:1] != [200]:
            wrong.append(f"{door.name}: the answer to the first is another's; {said}")
        if b'"a": "b"' in b"".join(body for _, _, body in said.answers):
            wrong.append(f"{door.name}, {name}: a header after the body was believed")
    assert not wrong, "\n".join(wrong)
    for server in front.servers:
        assert not re.search(r'Traceback|"level": "(error|critical)"', server.log.read_text())
