"""Limits, and requests that two servers may read in two ways: directly, and behind each proxy.

Raw bytes, as no client would send them. What is sent has a word in its path, and the request that
is hidden in it another: what the servers' logs have of these is what reached Django.
"""

import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from tests import raw, shapes
from tests.conftest import Bake, Prepare
from tests.network import DOMAIN
from tests.proxies.doors import (
    FRAME,
    HEAD,
    HEADERS,
    LINE,
    Door,
    added,
    doors,
    log_in,
    of_length,
    size_of,
    visited,
)
from tests.proxies.front import PROXIES, Front, emitted, standing
from tests.site import close_code, next_frame

pytestmark = pytest.mark.deploy

# Both servers, and WebSockets. What is read of a request does not depend on the other answers.
ANSWERS = {"interface": "both", "realtime": "channels", "database": "sqlite"}


@pytest.fixture(
    scope="module",
    params=[*PROXIES, "serve"],
    ids=lambda proxy: f"both-channels-sqlite-{proxy}",
)
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


def test_each_limit_is_the_same_on_every_way_in(front: Front) -> None:
    for door in doors(front):

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
        # What a proxy adds counts.
        rows = ["X: " + "x" * 6000, "Y: " + "y" * 6000, "Z: "]
        request = door.request("limit", *rows)
        (own, size), (added_lines, added_bytes) = size_of(request), added(door, request)
        assert (0, 0) <= (added_lines, added_bytes) <= (10, 1024), door.name
        many = [f"X-{number}: x" for number in range(HEADERS - own - added_lines + len(rows))]
        assert status(*many) == 200, (door.name, added_lines)
        assert status(*many, "X-1: x") == 431, (door.name, added_lines)
        room = "z" * (HEAD - size - added_bytes)
        assert status(*rows[:2], f"Z: {room}") == 200, (door.name, added_bytes)
        assert status(*rows[:2], f"Z: {room}z") == 431, (door.name, added_bytes)
        # More than any proxy reads.
        assert status(*["X: " + "x" * 8000] * 30) == 431, door.name


def test_each_limit_is_the_same_for_a_handshake(front: Front) -> None:
    """At the limit the site refuses whoever is not logged in; over it the server does."""
    for door in doors(front):
        if "uvicorn" not in door.name:
            continue

        def status(data: bytes, door: Door = door) -> int:
            # A proxy may keep its own connection.
            said = door.say(data, until_closed=door.direct)
            assert said.closed or not door.direct, f"{door.name}: {said}"
            assert len(said.statuses) == 1, f"{door.name}: {said}"
            return said.statuses[0]

        for path, headers, line, over in (
            ("/ws/chat/lobby/?@", [], 0, 414),
            ("/ws/chat/lobby/", ["Cookie: a=@"], 3 if door.direct else 2, 431),
        ):
            data = door.handshake(*headers, path=path)
            assert status(of_length(data, b"a", line, LINE)) == 403, (door.name, over)
            assert status(of_length(data, b"a", line, LINE + 1)) == over, door.name
        rows = ["X: " + "x" * 6000, "Y: " + "y" * 6000, "Z: "]
        data = door.handshake(*rows)
        (own, size), (added_lines, added_bytes) = size_of(data), added(door, data)
        many = [f"X-{number}: x" for number in range(HEADERS - own - added_lines + len(rows))]
        assert status(door.handshake(*many)) == 403, (door.name, added_lines)
        assert status(door.handshake(*many, "X-1: x")) == 431, (door.name, added_lines)
        rows[-1] += "z" * (HEAD - size - added_bytes)
        assert status(door.handshake(*rows)) == 403, (door.name, added_bytes)
        assert status(door.handshake(*rows[:2], f"{rows[2]}z")) == 431, (door.name, added_bytes)
        # It has no body; what is told to be one is read, or refused.
        said = door.say(door.handshake("Content-Length: 5") + b"hello", until_closed=door.direct)
        assert said.closed or not door.direct, f"{door.name}: {said}"
        assert said.statuses, f"{door.name}: {said}"


def test_message_at_the_limit_is_taken_and_one_byte_more_closes_its_socket(front: Front) -> None:
    cookies = log_in(front, "ada")["ada"]
    # A frame of its own that is larger, and pieces that are one message together.
    shapes = ([FRAME], [FRAME - 1, 1], [1] * 10 + [FRAME - 10])
    for door in doors(front):
        if "uvicorn" not in door.name:
            continue
        for sizes in shapes:
            for more in (0, 1):
                parts = ["x" * size for size in sizes[:-1]] + ["x" * (sizes[-1] + more)]
                with door.socket(cookies) as channel:
                    # It may be closed before all is said.
                    with suppress(ConnectionClosed):
                        channel.send(parts[0] if len(parts) == 1 else parts)
                    if more:
                        assert close_code(channel) == 1009, (door.name, sizes)
                    else:
                        # It is no message of the chat; but it was read.
                        assert next_frame(channel, "error")["text"], (door.name, sizes)
                        channel.send('{"type": "ping"}')
                        assert next_frame(channel, "pong"), (door.name, sizes)


def test_dot_behind_the_host_makes_no_difference(front: Front) -> None:
    """For a page, its form and a socket: all three compare the host with something."""
    cookies = log_in(front, "ada")["ada"]
    token = re.findall(r"csrftoken=(\w+)", cookies)[0]
    host = f"{DOMAIN}."
    for door in doors(front):
        if front.proxy == "caddy":
            # It sends browsers to the name as it is usual.
            for port in ("", ":8443"):
                said = door.say(door.request("x", host=f"{host}{port}"))
                assert said.statuses == [308], f"{door.name}: {said}"
                to = f"\r\nlocation: https://{DOMAIN}{port}{door.path}x/\r\n"
                assert to.encode() in said.answers[0][1].lower() + b"\r\n"
            continue
        if "uvicorn" in door.name:
            said = door.say(door.handshake(f"Cookie: {cookies}", host=host), seconds=5)
            assert b"HTTP/1.1 101" in said.rest or 101 in said.statuses, f"{door.name}: {said}"
            continue
        said = door.say(door.request("", path="/accounts/login/", host=host))
        assert said.statuses == [200], f"{door.name}: {said}"
        body = f"csrfmiddlewaretoken={token}&old_password=no"
        form = door.request(
            "", f"Cookie: {cookies}", f"Origin: {door.origin}.", f"Content-Length: {len(body)}",
            "Content-Type: application/x-www-form-urlencoded",
            path="/accounts/password_change/", host=host,
        ).replace(b"GET", b"POST", 1)  # fmt: skip
        said = door.say(form + body.encode())
        # The page again, with what was wrong in the form.
        assert said.statuses == [200], f"{door.name}: {said}"
        assert b"entered incorrectly" in said.answers[0][2], door.name


def test_cookies_in_two_headers_are_all_read(front: Front) -> None:
    cookies = log_in(front, "ada")["ada"].split("; ")
    for door in doors(front):
        said = door.say(door.request("x", "Cookie: a=1,2", "Cookie: b=3; c=4"))
        _, _, body = said.answers[0]
        assert b'"cookies": {"a": "1,2", "b": "3", "c": "4"}' in body, f"{door.name}: {body!r}"
        if "uvicorn" in door.name:
            for order in (cookies, cookies[::-1]):
                headers = [f"Cookie: {cookie}" for cookie in order]
                said = door.say(door.handshake(*headers), seconds=3)
                assert b"HTTP/1.1 101" in said.rest or 101 in said.statuses, door.name


def test_form_through_a_forwarded_port_is_taken(front: Front) -> None:
    """As through a tunnel or a container's port: Host and Origin have it, the site has not."""
    if front.proxy == "serve":
        return
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
    if front.proxy == "serve":
        return  # No stranger reaches it.
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

    def send_inside(job: tuple[Door, str]) -> raw.Said:
        with front.network.inside():
            return send(job)

    with visited(front), ThreadPoolExecutor(24) as pool:
        found = dict(zip(jobs, pool.map(send_inside, jobs), strict=True))
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
