"""Whoever sends slowly is cut off by the proxy in the time that its configuration says.

In a hurry: the seconds are shorter here. tests/test_timeouts.py compares the real ones.
"""

import re
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import Bake, Prepare
from tests.network import DOMAIN, SITE
from tests.proxies.front import PROXIES, Front, emitted, standing

pytestmark = pytest.mark.deploy

ANSWERS = {"interface": "both", "realtime": "none", "database": "sqlite"}
# For 10 and for 60 seconds.
HEAD, BODY = 2, 4
OPTIONS = {
    "caddy": {"read_header": HEAD, "read_body": BODY},
    "nginx": {"client_header_timeout": HEAD, "client_body_timeout": BODY},
}
# Of the machine, which may be busy.
MARGIN = 20


@pytest.fixture(scope="module", params=PROXIES, ids=lambda proxy: f"both-none-sqlite-{proxy}")
def started(
    request: pytest.FixtureRequest,
    prepared: Prepare,
    bake: Bake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Front]:
    proxy, folder = request.param, tmp_path_factory.mktemp(request.param)
    text = emitted(bake, ANSWERS, proxy)
    for option, seconds in OPTIONS[proxy].items():
        # In nginx.conf twice: of all names, and of this one.
        text, count = re.subn(rf"(?<=\b{option} )\d+s\b", f"{seconds}s", text)
        assert count in (1, 2), option
    project, variables = prepared(ANSWERS)
    with standing(project, variables, proxy, text, folder) as front:
        yield front


@dataclass
class End:
    """How a connection ended: after how many seconds, and what was said."""

    seconds: float
    said: bytes


def trickle(front: Front, first: bytes, piece: bytes, every: float, most: float) -> End:
    """Send `first`, then a piece every so many seconds; return when it is answered or cut off."""
    connection = socket.create_connection((SITE, 443), timeout=20)
    with front.trust.wrap_socket(connection, server_hostname=DOMAIN) as tls:
        started, said = time.monotonic(), b""
        tls.sendall(first)
        tls.settimeout(every)
        while time.monotonic() - started < most:
            try:
                said += tls.recv(4096)
                break
            except TimeoutError:
                pass
            except (OSError, ssl.SSLError):
                break
            try:
                tls.sendall(piece)
            except (OSError, ssl.SSLError):
                break
        return End(time.monotonic() - started, said)


HOST = f"Host: {DOMAIN}\r\n".encode()
POST = (
    b"POST /probe/upload/ HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: %d\r\n\r\n"
)


def test_head_that_comes_slowly_is_cut_off(front: Front) -> None:
    for path in (b"/", b"/async/status/"):
        start = b"GET " + path + b" HTTP/1.1\r\n" + HOST
        for first, piece in (
            # Nothing, half a line, and a header from time to time.
            (b"", b""),
            (start[:9], b""),
            (start, b"X: y\r\n"),
        ):
            end = trickle(front, first, piece, 0.3, HEAD + MARGIN)
            assert HEAD * 0.9 < end.seconds < HEAD + MARGIN, (first, end)
            assert end.said[:12] in (b"", b"HTTP/1.1 408", b"HTTP/1.1 400"), (first, end)


def test_body_that_stops_is_cut_off(front: Front) -> None:
    """And Caddy does not look for somebody who would take it: half a minute, and 120 lines."""
    log = front.folder / front.proxy / "log"
    before = len(log.read_text().splitlines())
    end = trickle(front, POST % 5000 + b"x" * 1000, b"", 0.3, BODY + MARGIN)

    assert BODY * 0.9 < end.seconds < BODY + MARGIN
    assert not end.said.startswith(b"HTTP/1.1 2"), end
    # As somebody does who goes away.
    trickle(front, POST % 5000 + b"x" * 1000, b"", 0.3, 0.5)
    time.sleep(3)
    assert len(log.read_text().splitlines()) - before <= 4


def test_body_that_comes_in_time_is_taken(front: Front) -> None:
    # A piece each half second, and the last one before the end.
    end = trickle(front, POST % 30 + b"x" * 10, b"x" * 5, 0.5, BODY + MARGIN)

    assert end.said.startswith(b"HTTP/1.1 200"), end
    assert end.seconds < BODY + MARGIN


def test_body_that_never_ends_is_cut_off_by_caddy_and_goes_on_in_nginx(front: Front) -> None:
    """nginx counts the time between two pieces. It keeps the body, and no thread waits for it."""
    end = trickle(front, POST % 5000 + b"x" * 10, b"x", 0.3, 2 * BODY)

    if front.proxy == "caddy":
        assert end.seconds > BODY * 0.9
        assert not end.said.startswith(b"HTTP/1.1 2"), end
    else:
        assert (end.said, end.seconds >= 2 * BODY) == (b"", True), end
    assert front.get("/").status_code == 200
