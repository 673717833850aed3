"""HTTP/2 frames to a proxy and back, with no rule kept on the way there."""

import socket
import ssl
import time
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from tests.network import DOMAIN
from tests.proxies.doors import Door

type Headers = list[tuple[bytes, bytes]]
# What the library looks at before it sends, and what it mends.
LAWLESS = H2Configuration(
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    validate_inbound_headers=False,
)


@dataclass
class Said:
    """What came back for a request: its answer, and whether it or the connection was cut off."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    # In place of an answer.
    cut: str = ""

    @property
    def statuses(self) -> list[int]:
        return [self.status] if self.status else []

    def __str__(self) -> str:
        return f"{self.statuses} {self.cut} {self.body[:200]!r}"


def trust_of(door: Door) -> ssl.SSLContext:
    """Return what a visitor trusts who speaks HTTP/2 and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=b"".join(door.front.trust.get_ca_certs(True)))
    context.set_alpn_protocols(["h2"])
    return context


def ask(
    door: Door, headers: Headers, body: bytes = b"", trailers: Headers | None = None,
    seconds: float = 30,
) -> Said:  # fmt: skip
    """Send a request as it stands here, and listen until it is answered, or for `seconds`."""
    said, ends = Said(), time.monotonic() + seconds
    with (
        socket.create_connection(door.address, timeout=20) as plain,
        trust_of(door).wrap_socket(plain, server_hostname=DOMAIN) as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"
        talk = H2Connection(LAWLESS)
        talk.initiate_connection()
        talk.send_headers(1, headers, end_stream=not body and trailers is None)
        left, finished = body, not body and trailers is None
        try:
            while not (said.ended or said.cut) and time.monotonic() < ends:
                while left and (room := talk.local_flow_control_window(1)):
                    size = min(room, talk.max_outbound_frame_size)
                    piece, left = left[:size], left[size:]
                    talk.send_data(1, piece, end_stream=not left and trailers is None)
                    finished = not left and trailers is None
                if not left and not finished:
                    talk.send_headers(1, trailers or [], end_stream=True)
                    finished = True
                connection.sendall(talk.data_to_send())
                connection.settimeout(max(0.01, ends - time.monotonic()))
                received = connection.recv(65536)
                if not received:
                    said.cut = said.cut or "connection closed"
                for event in talk.receive_data(received):
                    note(talk, event, said)
            connection.sendall(talk.data_to_send())
        except TimeoutError:
            pass
        except OSError as error:
            said.cut = said.cut or repr(error)
    return said


def note(talk: H2Connection, event: object, said: Said) -> None:
    """Take down what a frame says."""
    if isinstance(event, ResponseReceived):
        said.headers = dict(event.headers)
        said.status = int(said.headers[b":status"])
    elif isinstance(event, DataReceived):
        said.body += event.data
        talk.acknowledge_received_data(event.flow_controlled_length, 1)
    elif isinstance(event, StreamEnded | TrailersReceived):
        said.ended = True
    elif isinstance(event, StreamReset):
        said.cut = f"stream reset: {event.error_code!r}"
    elif isinstance(event, ConnectionTerminated):
        said.cut = f"connection ended: {event.error_code!r}"


def head(path: str | bytes, *more: tuple[bytes, bytes], method: bytes = b"GET") -> Headers:
    """Return the headers of a request, as a browser sends them."""
    path = path.encode() if isinstance(path, str) else path
    return [
        (b":method", method), (b":scheme", b"https"), (b":authority", DOMAIN.encode()),
        (b":path", path), *more,
    ]  # fmt: skip


@dataclass
class Shape:
    """A request. {P} is its path, {H} the host, and {S} a whole request that is hidden in it."""

    headers: Headers
    body: bytes = b""
    trailers: Headers | None = None

    def fill(self, path: str, hidden: str) -> "Shape":
        secret = f"GET {hidden} HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close\r\n\r\n".encode()

        def filled(text: bytes) -> bytes:
            for mark, value in (
                (b"{L}", str(len(b"hello" + secret)).encode()),
                (b"{S}", secret),
                (b"{I}", hidden.encode()),
                (b"{P}", path.encode()),
                (b"{H}", DOMAIN.encode()),
            ):
                text = text.replace(mark, value)
            return text

        def all_filled(headers: Headers) -> Headers:
            return [(filled(name), filled(value)) for name, value in headers]

        trailers = None if self.trailers is None else all_filled(self.trailers)
        return Shape(all_filled(self.headers), filled(self.body), trailers)


def get(*more: tuple[bytes, bytes], **changed: bytes | None) -> Shape:
    """Return a GET with more headers, and some of the first ones changed or left out."""
    return post(*more, body=b"", **{"method": b"GET", **changed})


def post(
    *more: tuple[bytes, bytes], body: bytes = b"hello{S}", trailers: Headers | None = None,
    **changed: bytes | None,
) -> Shape:  # fmt: skip
    first = {":method": b"POST", ":scheme": b"https", ":authority": b"{H}", ":path": b"{P}"}
    first |= {f":{name}": value for name, value in changed.items()}
    pseudo = [(name.encode(), value) for name, value in first.items() if value is not None]
    return Shape([*pseudo, *more], body, trailers)


LENGTH, CODING = b"content-length", b"transfer-encoding"
CHUNKED = (CODING, b"chunked")
END = b"0\r\n\r\n{S}"
LENGTHS = {
    "right length": post((LENGTH, b"{L}")),
    "no length": post(),
    "shorter": post((LENGTH, b"5")),
    "zero": post((LENGTH, b"0")),
    "longer": post((LENGTH, b"9999")),
    "length and no body": post((LENGTH, b"5"), body=b""),
    "same length twice": post((LENGTH, b"{L}"), (LENGTH, b"{L}")),
    "two lengths": post((LENGTH, b"5"), (LENGTH, b"{L}")),
    "two lengths, reversed": post((LENGTH, b"{L}"), (LENGTH, b"5")),
    "list of lengths": post((LENGTH, b"5, {L}")),
    "plus": post((LENGTH, b"+5")),
    "minus": post((LENGTH, b"-5")),
    "empty length": post((LENGTH, b"")),
    "length in capitals": post((b"Content-Length", b"5")),
    "length with an underscore": post((b"content_length", b"5")),
    "length with a blank": post((b"content-length ", b"5")),
    "GET with a body": post((LENGTH, b"5"), method=b"GET"),
    "length in a trailer": post(trailers=[(LENGTH, b"5")]),
}
CODINGS = {
    "chunked": post(CHUNKED, body=END),
    "chunked and length": post(CHUNKED, (LENGTH, b"5"), body=END),
    "length and chunked": post((LENGTH, b"5"), CHUNKED, body=END),
    "chunked twice": post(CHUNKED, CHUNKED, body=END),
    "identity": post((CODING, b"identity"), body=END),
    "xchunked": post((CODING, b"xchunked"), body=END),
    "chunked in capitals": post((b"Transfer-Encoding", b"chunked"), body=END),
    "chunked with an underscore": post((b"transfer_encoding", b"chunked"), body=END),
    "chunked after a blank": post((b" transfer-encoding", b"chunked"), body=END),
    "chunked before a blank": post((b"transfer-encoding ", b"chunked"), body=END),
    "chunked in a trailer": post(body=END, trailers=[CHUNKED]),
    "GET and chunked": post(CHUNKED, body=END, method=b"GET"),
}
BREAKS = {
    f"{names} in {place}": shape
    for names, mark in (("CRLF", b"\r\n"), ("LF", b"\n"), ("CR", b"\r"), ("NUL", b"\0"))
    for place, shape in {
        "a value": get((b"x", b"a" + mark + b"y: b")),
        "a value, and a request": get((b"x", b"a" + mark * 2 + b"{S}")),
        "a value, and a coding": post(
            (b"x", b"a" + mark + b"transfer-encoding: chunked"), body=END
        ),
        "a value, and a length": post((b"x", b"a" + mark + b"content-length: 5")),
        "front of a value": get((b"x", mark + b"a")),
        "a name": get((b"x" + mark + b"y", b"a")),
        "a name, and a request": get((b"x: a" + mark * 2 + b"{S}", b"a")),
        "a name, and a coding": post(
            (b"x: a" + mark + b"transfer-encoding", b"chunked"), body=END
        ),
        "the path": get(path=b"{P}" + mark),
        "the path, and a request": get(
            path=b"{P} HTTP/1.1" + mark + b"host: {H}" + mark * 2 + b"{S}"
        ),
        "the authority": get(authority=b"{H}" + mark * 2 + b"{S}"),
        "the method": get(method=b"GET {P} HTTP/1.1" + mark + b"host: {H}" + mark * 2 + b"{S}"),
        "the scheme": get(scheme=b"https" + mark * 2 + b"{S}"),
        "a cookie": get((b"cookie", b"a=b" + mark * 2 + b"{S}")),
        "a trailer": post(trailers=[(b"x", b"a" + mark * 2 + b"{S}")]),
    }.items()
}  # fmt: skip
PSEUDO = {
    "blank in the path": get(path=b"{P} x"),
    "version in the path": get(path=b"{P} HTTP/1.1"),
    "tab in the path": get(path=b"{P}\tx"),
    "byte over 127 in the path": get(path=b"{P}\xff"),
    "fragment in the path": get(path=b"{P}#x"),
    "whole address as the path": get(path=b"https://{H}{P}"),
    "path without a slash": get(path=b"x{P}"),
    "star as the path": get(path=b"*"),
    "empty path": get(path=b""),
    "no path": get(path=None),
    "two paths": get((b":path", b"{I}")),
    "blank in the method": get(method=b"GET {I}"),
    "method in small letters": get(method=b"get"),
    "no method": get(method=None),
    "two methods": get((b":method", b"POST")),
    "CONNECT": get(method=b"CONNECT"),
    "CONNECT without a path": get(method=b"CONNECT", path=None, scheme=None),
    "CONNECT to websocket": get((b":protocol", b"websocket"), method=b"CONNECT"),
    "http": get(scheme=b"http"),
    "unknown scheme": get(scheme=b"x"),
    "address as the scheme": get(scheme=b"https://evil.example/?"),
    "no scheme": get(scheme=None),
    "two schemes": get((b":scheme", b"http")),
    "unknown pseudo header": get((b":x", b"y")),
    "pseudo header after others": get((b"x", b"y"), (b":path", b"{P}"), path=None),
    "pseudo header in a trailer": post(trailers=[(b":path", b"{I}")]),
    ":status": get((b":status", b"200")),
}
HOSTS = {
    "host and authority": get((b"host", b"{H}")),
    "other host": get((b"host", b"evil.example")),
    "other authority": get((b"host", b"{H}"), authority=b"evil.example"),
    "other authority and no host": get(authority=b"evil.example"),
    "host and no authority": get((b"host", b"{H}"), authority=None),
    "neither": get(authority=None),
    "two hosts": get((b"host", b"{H}"), (b"host", b"evil.example"), authority=None),
    "two authorities": get((b":authority", b"evil.example")),
    "authority with a user": get(authority=b"x@{H}"),
    "authority with a path": get(authority=b"{H}/x"),
    "empty authority": get(authority=b""),
}
OTHERS = {
    "connection": get((b"connection", b"keep-alive")),
    "connection: close": get((b"connection", b"close")),
    "hop by hop length": post((b"connection", b"content-length"), (LENGTH, b"{L}")),
    "hop by hop host": get((b"connection", b"host")),
    "keep-alive": get((b"keep-alive", b"timeout=5")),
    "proxy-connection": get((b"proxy-connection", b"keep-alive")),
    "upgrade": get((b"connection", b"upgrade"), (b"upgrade", b"websocket")),
    "h2c": get((b"connection", b"upgrade, http2-settings"), (b"upgrade", b"h2c")),
    "te": get((b"te", b"gzip, chunked")),
    "te: trailers": get((b"te", b"trailers")),
    "name in capitals": get((b"X-Y", b"a")),
    "host in capitals": get((b"Host", b"evil.example")),
    "empty name": get((b"", b"a")),
    "colon in a name": get((b"x: y", b"a")),
    "blank in a name": get((b"x y", b"a")),
    "byte over 127 in a name": get((b"x\xff", b"a")),
    "byte over 127 in a value": get((b"x", b"\xff")),
    "escape in a value": get((b"x", b"\x1b[2J")),
    "blanks around a value": get((b"x", b" a ")),
    "unknown expectation": post((b"expect", b"x")),
    "trailers of a head": post(trailers=[(b"cookie", b"a=b"), (b"x-forwarded-for", b"9.9.9.9")]),
}
SHAPES = LENGTHS | CODINGS | BREAKS | PSEUDO | HOSTS | OTHERS
