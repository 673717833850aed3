# The template updates this file: see serving/README.md.
"""The layer around Django, the same for every request and WebSocket on any server.

It does four things:

- client address and scheme: forwarded headers are used only from FORWARDED_ALLOW_IPS, and
  then removed, so that Django never sees a forged one.
- request id: from a trusted proxy, otherwise a new one. It is in every log line and in the
  response.
- size of the body: 413 if it is larger than MAX_BODY.
- access log. The servers' own access logs are off, because they have no request id.
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

import serving.invalid_text  # noqa: F401
{% if cookiecutter.__asgi %}
from serving import metrics
from serving.shutdown import Connection
{% endif %}

logger = structlog.get_logger("access")

# Headers in which proxies send the client's address, host and scheme.
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
# Headers that are removed from a request, and headers that are read here.
REMOVED_HEADERS = FORWARDED | {"x-request-id"}
READ_HEADERS = REMOVED_HEADERS | {"content-length", "host"}
# The events that start a response.
START_EVENTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")

type Event = dict[str, Any]
type Receive = Callable[[], Awaitable[Event]]
type Send = Callable[[Event], Awaitable[None]]
type ASGIApplication = Callable[..., Awaitable[None]]

{% endif %}
# An id that is safe in logs and headers.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Client:
    """IP address (empty behind a Unix socket), whether https is used, and request id."""

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
        # Proxies append an address. The last one that is not our proxy is the client.
        for hop in reversed(header("x-forwarded-for").split(",")):
            hop_address = without_port(hop.strip())
            # A scope id (fe80::1%eth0) is valid on one machine only, and can be any text.
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
    # parse() turns ::ffff:192.0.2.1 into 192.0.2.1.
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
    # A server that listens on IPv6 sees 192.0.2.1 as ::ffff:192.0.2.1.
    return (isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped) or ip


@functools.lru_cache(maxsize=1024)
def is_trusted(address: str) -> bool:
    """Return whether `address` is our proxy or "", a Unix socket, which is always local."""
    if not address:
        return True
    ip = parse(address)
    return ip is not None and any(ip in network for network in settings.TRUSTED_PROXIES)


def start(client: Client) -> float:
    """Bind the request id to all following log lines; return the time, in seconds."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=client.request_id)
    return time.perf_counter()


def is_too_large(content_length: str) -> bool:
    """Return whether a body of this length is refused.

    Django writes a body of any size to the disk before it resolves the URL.
    """
    # int() raises ValueError for a number with thousands of digits.
    return content_length.isdecimal() and int(content_length[:20]) > settings.MAX_BODY


def refusal() -> tuple[dict[str, str], bytes]:
    """Return headers and page of a 413; the access line has the reason."""
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
    """Write the access line, except for health probes: they come every few seconds."""
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
            # uWSGI uses the scheme in these headers, even if a client has forged them.
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
                # Some servers read nothing of such a body, others block.
                send_start("411 Length Required", [("Content-Length", "0")])
                return []
            # A chunked body has no Content-Length, and Django would treat it as empty.
            with tempfile.SpooledTemporaryFile(
                settings.FILE_UPLOAD_MAX_MEMORY_SIZE
            ) as body:
                while body.tell() <= settings.MAX_BODY and (
                    chunk := environ["wsgi.input"].read(64 * 1024)
                ):
                    body.write(chunk)
                environ["CONTENT_LENGTH"] = str(body.tell())
                body.seek(0)
                environ["wsgi.input"] = body
                return self.answer(environ, send_start)
        return self.answer(environ, send_start)

    def answer(self, environ: dict[str, Any], send_start: Callable[..., Any]) -> Any:
        """Return the body of the response, which is empty for HEAD."""
        if is_too_large(environ.get("CONTENT_LENGTH", "")):
            headers, page = refusal()
            send_start("413 Content Too Large", [*headers.items()])
            body: Any = [page]
        else:
            # Returned unchanged: servers send a wsgi.file_wrapper without copying it.
            body = self.application(environ, send_start)
        if environ["REQUEST_METHOD"] == "HEAD":
            # Django leaves the body to the server; gunicorn would warn.
            if close := getattr(body, "close", None):
                close()
            return []
        return body


@functools.cache
def environ_key(name: str) -> str:
    """Return the WSGI environ key of a header."""
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
    headers = [(b"retry-after", b"10")] if status in (429, 503) else []
    await send(
        {"type": "websocket.http.response.start", "status": status, "headers": headers}
    )
    await send({"type": "websocket.http.response.body", "body": b""})


async def refuse_body(send: Send) -> None:
    """Send the 413 for a body that is too large."""
    headers, page = refusal()
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 413, "headers": pairs})
    await send({"type": "http.response.body", "body": page})


class ASGIEdge:
    """Wraps an ASGI application: its requests and its WebSockets."""

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

        # The server's own pairs, not copies: an open WebSocket keeps them in memory.
        headers: list[tuple[bytes, bytes]] = []
        read_headers: dict[str, str] = {}
        for pair in scope["headers"]:
            name = pair[0].lower().decode("latin-1")
            if name in READ_HEADERS:
                value = pair[1].decode("latin-1")
                if name in read_headers:
                    value = f"{read_headers[name]},{value}"
                read_headers[name] = value
            # Django reads `x_real_ip` as X-Real-IP, so names with underscores are removed.
            if name not in REMOVED_HEADERS and "_" not in name:
                headers.append(pair)

        # Servers may leave both out: https://asgi.readthedocs.io/en/latest/specs/www.html
        peer = scope.get("client")
        client = identify(
            peer[0] if peer else "",
            scope.get("scheme") in ("https", "wss"),
            lambda name: read_headers.get(name, ""),
        )
        request_id = (b"x-request-id", client.request_id.encode())
        # RFC 9112, 3.2: a request without Host is a 400. Django refuses an empty one.
        nameless = "host" not in read_headers and scope.get("http_version") == "1.1"
        if nameless:
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
        metrics.OPEN_COUNTS["sockets"] += is_socket
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
                    # The application sees a disconnect.
                    return {"type": "http.disconnect"}
            return event

        async def inner_send(event: Event) -> None:
            if event["type"] in START_EVENTS:
                outcome["status"] = event.get("status", 101)
                event = {**event, "headers": [*event.get("headers", ()), request_id]}
            elif event["type"] == "websocket.close":
                # Closing before accept refuses the handshake.
                outcome.setdefault("status", 403)
                outcome.setdefault("code", event.get("code", 1000))
            await connection.send(event)

        try:
            if is_socket and nameless:
                await refuse(scope, inner_receive, inner_send, "no host", 400)
                return
{% if not cookiecutter.__channels %}
            if is_socket:
                # Django would raise an exception.
                await refuse(scope, inner_receive, inner_send, "no WebSockets here")
                return
{% endif %}
            length = read_headers.get("content-length", "")
            if scope["type"] == "http" and is_too_large(length):
                await refuse_body(inner_send)
                return
            await self.application(inner, inner_receive, inner_send)
            if received > settings.MAX_BODY and "status" not in outcome:
                await refuse_body(inner_send)
        except Exception:
            # If the application raises, the server sends the 500.
            outcome.setdefault("status", 500)
            raise
        finally:
            await connection.finish()
            metrics.OPEN_COUNTS["sockets"] -= is_socket
            log(
                "request" if scope["type"] == "http" else "websocket",
                client,
                read_headers.get("host", ""),
                scope["path"],
                started,
                method=scope.get("method", "GET"),
                **outcome,
            )
{% endif %}
