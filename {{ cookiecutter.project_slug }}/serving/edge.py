# The template updates this file: see serving/README.md.
"""Around Django: the same for every request and every WebSocket, on any server.

It settles four things before Django sees the request:

- who is asking. Forwarded headers are believed only when they come from one of
  FORWARDED_ALLOW_IPS; then REMOTE_ADDR and the scheme are the client's. Either way the
  headers are gone afterwards, so that nothing further in can believe a forged one.
- the request's id. A trusted proxy's X-Request-ID is taken over, otherwise it is a new one.
  It stands in every log line and is sent back to the client.
- how much of it there may be: 413 for a body that is larger than MAX_BODY.
- the access line in the log. The servers' own are off: they know no request id.
"""

import functools
import ipaddress
import os
import re
{% if cookiecutter.__wsgi %}
import tempfile
{% endif %}
import time
{% if cookiecutter.__asgi %}
from collections.abc import Awaitable, Callable
{% else %}
from collections.abc import Callable
{% endif %}
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings

import serving.text  # noqa: F401
{% if cookiecutter.__asgi %}
from serving import metrics
from serving.shutdown import Connection
{% endif %}

logger = structlog.get_logger("access")

# Headers by which proxies speak of the client.
FORWARDED = frozenset(
    {
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-forwarded-ssl",
        "x-real-ip",
    }
)
{% if cookiecutter.__asgi %}
# What is taken off a request, and what is read of it here.
REMOVED = FORWARDED | {"x-request-id"}
READ = REMOVED | {"content-length", "host"}
# The first event of a response.
ANSWERS = ("http.response.start", "websocket.accept", "websocket.http.response.start")

type Event = dict[str, Any]
type Receive = Callable[[], Awaitable[Event]]
type Send = Callable[[Event], Awaitable[None]]
type ASGIApplication = Callable[..., Awaitable[None]]

{% endif %}
# Safe to write into logs and headers.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Client:
    """Who is asking: IP address (empty behind a Unix socket), transport, request id."""

    address: str
    secure: bool
    request_id: str


def identify(peer: str, secure: bool, header: Callable[[str], str]) -> Client:
    """Return the client of a request.

    `peer` is the address at the other end of the connection, empty for a Unix socket,
    `secure` whether that connection is encrypted, and `header` returns a header's value by
    its lower-case name, several values joined with commas, or "".
    """
    request_id = ""
    address = peer
    if is_trusted(peer):
        # The newest hop stands last; the first that is no proxy of ours is the client.
        for hop in reversed(header("x-forwarded-for").split(",")):
            hop_address = without_port(hop.strip())
            # A scope id (fe80::1%eth0) has a meaning on one machine, and is any text.
            if parse(hop_address) is None or "%" in hop_address:
                break
            address = hop_address
            if not is_trusted(address):
                break
        match header("x-forwarded-proto").rpartition(",")[2].strip().lower():
            case "https" | "wss":
                secure = True
            case "http" | "ws":
                secure = False
        request_id = header("x-request-id")
    if not REQUEST_ID.fullmatch(request_id):
        request_id = os.urandom(16).hex()
    # Servers that listen on IPv6 know IPv4 clients as ::ffff:192.0.2.1.
    return Client(str(parse(address) or address), secure, request_id)


def without_port(hop: str) -> str:
    """Return the address in 192.0.2.1, 192.0.2.1:80, 2001:db8::1 or [2001:db8::1]:80."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


@functools.lru_cache(maxsize=1024)
def parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return `address` as an object, or None if it is not an IP address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    # A socket that listens on IPv6 shows 192.0.2.1 as ::ffff:192.0.2.1.
    return (isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped) or ip


@functools.lru_cache(maxsize=1024)
def is_trusted(address: str) -> bool:
    """Return whether `address` is a proxy of ours. Nobody outside reaches a Unix socket."""
    if not address:
        return True
    ip = parse(address)
    return ip is not None and any(ip in network for network in settings.TRUSTED_PROXIES)


def start(client: Client) -> float:
    """Tie the log lines that follow to this request; return the time, in seconds."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=client.request_id)
    return time.perf_counter()


def is_too_large(content_length: str) -> bool:
    """Return whether a body of this length is refused.

    Django itself writes one of any size to the disk, before it looks at the address that
    it was sent to.
    """
    # int() raises ValueError for a number with thousands of digits.
    return content_length.isdecimal() and int(content_length[:20]) > settings.MAX_BODY


def refusal() -> tuple[dict[str, str], bytes]:
    """Return the headers and the page that refuse a body; the access line says why."""
    structlog.contextvars.bind_contextvars(refused="body larger than MAX_BODY")
    page = (
        '<!doctype html>\n<html lang="en">\n<title>Too large</title>\n<h1>Too large</h1>\n'
        f"<p>This site takes at most {settings.MAX_BODY / 1024**2:.3g} MB at once, files "
        "included.</p>\n</html>\n"
    ).encode()
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Length": str(len(page)),
    }
    return headers, page


def log(
    event: str, client: Client, host: str, path: str, started: float, **details: object
) -> None:
    """Write the access line. Health probes come every few seconds and are left out."""
    if not path.startswith("/health/"):
        logger.info(
            event,
            client=client.address,
            host=host,
            path=path,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
            **details,
        )
{% if cookiecutter.__wsgi %}


class WSGIEdge:
    """Wraps a WSGI application."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        secure = environ["wsgi.url_scheme"] == "https"
        if "HTTP_X_FORWARDED_PROTO" in environ or "HTTP_X_FORWARDED_SSL" in environ:
            # uWSGI takes the scheme from these headers, even if a client has forged them.
            secure = secure and "uwsgi.version" not in environ
        client = identify(
            environ.get("REMOTE_ADDR", ""),
            secure,
            lambda name: environ.get(environ_key(name), ""),
        )
        for name in FORWARDED:
            environ.pop(environ_key(name), None)
        environ["REMOTE_ADDR"] = client.address
        environ["wsgi.url_scheme"] = "https" if client.secure else "http"
        environ["HTTP_X_REQUEST_ID"] = client.request_id
        if environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
            # RFC 9112, 3.2: a request without Host is a 400. Django refuses an empty one.
            environ.setdefault("HTTP_HOST", "")
        started = start(client)

        def send_start(status: str, headers: list[Any], exc_info: Any = None) -> Any:
            log(
                "request",
                client,
                environ.get("HTTP_HOST", ""),
                environ["PATH_INFO"],
                started,
                method=environ["REQUEST_METHOD"],
                status=int(status[:3]),
            )
            headers = [*headers, ("X-Request-ID", client.request_id)]
            return start_response(status, headers, exc_info)

        if "HTTP_TRANSFER_ENCODING" in environ and not environ.get("CONTENT_LENGTH"):
            if not environ.get("wsgi.input_terminated"):
                # Some servers return nothing for such a body, others block.
                send_start("411 Length Required", [("Content-Length", "0")])
                return []
            # A body in pieces, whose length nobody told: Django would take it for empty.
            with tempfile.SpooledTemporaryFile(
                settings.FILE_UPLOAD_MAX_MEMORY_SIZE
            ) as pieces:
                while pieces.tell() <= settings.MAX_BODY and (
                    piece := environ["wsgi.input"].read(64 * 1024)
                ):
                    pieces.write(piece)
                environ["CONTENT_LENGTH"] = str(pieces.tell())
                pieces.seek(0)
                environ["wsgi.input"] = pieces
                return self.answer(environ, send_start)
        return self.answer(environ, send_start)

    def answer(self, environ: dict[str, Any], send_start: Callable[..., Any]) -> Any:
        """Return the application's answer, without a body if it was not asked for one."""
        if is_too_large(environ.get("CONTENT_LENGTH", "")):
            headers, page = refusal()
            send_start("413 Content Too Large", [*headers.items()])
            body: Any = [page]
        else:
            # Returned as it is: servers send a wsgi.file_wrapper without copying.
            body = self.application(environ, send_start)
        if environ["REQUEST_METHOD"] == "HEAD":
            # Django leaves it to the server to drop the body, and gunicorn warns of it.
            if close := getattr(body, "close", None):
                close()
            return []
        return body


@functools.cache
def environ_key(name: str) -> str:
    """Return the key under which PEP 3333 keeps the header `name`."""
    return "HTTP_" + name.upper().replace("-", "_")
{% endif %}
{% if cookiecutter.__asgi %}


async def refuse(
    scope: dict[str, Any], receive: Receive, send: Send, reason: str, status: int = 403
) -> None:
    """Refuse a WebSocket handshake; the access line has the reason."""
    structlog.contextvars.bind_contextvars(refused=reason)
    await receive()
    if status == 403 or "websocket.http.response" not in scope.get("extensions", ()):
        await send({"type": "websocket.close"})
        return
    headers = [(b"retry-after", b"10")]
    await send(
        {"type": "websocket.http.response.start", "status": status, "headers": headers}
    )
    await send({"type": "websocket.http.response.body", "body": b""})


async def refuse_body(send: Send) -> None:
    """Answer that the body of a request is too large."""
    headers, page = refusal()
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 413, "headers": pairs})
    await send({"type": "http.response.body", "body": page})


class ASGIEdge:
    """Wraps an ASGI application; requests and WebSockets alike."""

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                return await self.application(scope, receive, send)
            except ValueError:  # Django and Channels do not support these events
                for name in ("startup", "shutdown"):
                    await receive()
                    await send({"type": f"lifespan.{name}.complete"})
                return

        # The server's own pairs, no copies: a socket keeps them for as long as it lives.
        headers: list[tuple[bytes, bytes]] = []
        own: dict[str, str] = {}
        for pair in scope["headers"]:
            name = pair[0].lower().decode("latin-1")
            if name in READ:
                value = pair[1].decode("latin-1")
                own[name] = f"{own[name]},{value}" if name in own else value
            # Django reads x_real_ip as X-Real-IP: names with underscores go as well.
            if name not in REMOVED and "_" not in name:
                headers.append(pair)

        # Servers may leave both out: https://asgi.readthedocs.io/en/latest/specs/www.html
        peer = scope.get("client")
        client = identify(
            peer[0] if peer else "",
            scope.get("scheme") in ("https", "wss"),
            lambda name: own.get(name, ""),
        )
        request_id = (b"x-request-id", client.request_id.encode())
        if "host" not in own and scope.get("http_version") == "1.1":
            # RFC 9112, 3.2: a request without Host is a 400. Django refuses an empty one.
            headers.append((b"host", b""))
        inner = {
            **scope,
            "client": (client.address, peer[1] if peer else 0),
            "scheme": {
                "http": ("http", "https"),
                "websocket": ("ws", "wss"),
            }[scope["type"]][client.secure],
            "headers": [*headers, request_id],
        }
        started = start(client)
        is_socket = scope["type"] == "websocket"
        connection = Connection(is_socket, receive, send)
        metrics.OPEN["sockets"] += is_socket
        outcome: Event = {}
        received = 0

        async def inner_receive() -> Event:
            nonlocal received
            event = await connection.receive()
            if event["type"] == "websocket.disconnect":
                outcome.setdefault("code", event.get("code", 1005))
            elif event["type"] == "http.request":
                received += len(event.get("body", b""))
                if received > settings.MAX_BODY:
                    # To the application it is as if the client had gone.
                    return {"type": "http.disconnect"}
            return event

        async def inner_send(event: Event) -> None:
            if event["type"] in ANSWERS:
                outcome["status"] = event.get("status", 101)
                event = {**event, "headers": [*event.get("headers", ()), request_id]}
            elif event["type"] == "websocket.close":
                # Before it is accepted, closing a WebSocket is refusing its handshake.
                outcome.setdefault("status", 403)
                outcome.setdefault("code", event.get("code", 1000))
            await connection.send(event)

        try:
{% if not cookiecutter.__channels %}
            if scope["type"] == "websocket":
                # Django would raise.
                await refuse(scope, inner_receive, inner_send, "no WebSockets here")
                return
{% endif %}
            if scope["type"] == "http" and is_too_large(own.get("content-length", "")):
                await refuse_body(inner_send)
                return
            await self.application(inner, inner_receive, inner_send)
            if received > settings.MAX_BODY and "status" not in outcome:
                await refuse_body(inner_send)
        except Exception:
            # The server answers for an application that raises.
            outcome.setdefault("status", 500)
            raise
        finally:
            await connection.finish()
            metrics.OPEN["sockets"] -= is_socket
            log(
                "request" if scope["type"] == "http" else "websocket",
                client,
                own.get("host", ""),
                scope["path"],
                started,
                method=scope.get("method", "GET"),
                **outcome,
            )
{% endif %}
