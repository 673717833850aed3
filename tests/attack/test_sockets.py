"""WebSockets: handshakes, frames, and what is said in them."""

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.attack import EXPECTED
from tests.site import Site, close_code, next_frame, say

pytestmark = pytest.mark.serve

# Of chat/limits.py.
SOCKETS_PER_USER = 20


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


def test_log_is_clean(site: Site) -> None:
    site.assert_clean_log(EXPECTED)
