"""Who is asking, the id of a request, its size, the access line (serving/edge.py)."""

{% if cookiecutter.__wsgi %}
import io
{% endif %}
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
{% if cookiecutter.__asgi %}
from asgiref.sync import async_to_sync
{% endif %}
from django.conf import settings
from structlog.contextvars import merge_contextvars

{% if cookiecutter.__channels %}
from serving import metrics
{% endif %}
{% if cookiecutter.__wsgi and cookiecutter.__asgi %}
from serving.edge import ASGIEdge, WSGIEdge, identify
{% elif cookiecutter.__wsgi %}
from serving.edge import WSGIEdge, identify
{% else %}
from serving.edge import ASGIEdge, identify
{% endif %}

PROXY = "127.0.0.1"
MAX_BODY = settings.MAX_BODY
STRANGER = "198.51.100.7"
FORWARDED = [
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Forwarded-SSL",
    "X-Real-IP",
]
# What a request to the applications below leaves in the log.
ACCESS_LINE = {
    "log_level": "info",
    "event": "request",
    "client": PROXY,
    "host": "shop.example",
    "path": "/buy/",
    "method": "POST",
    "status": 302,
    "milliseconds": 250.2,
}


@pytest.fixture
def lines(monkeypatch: Any) -> Iterator[list[Any]]:
    """What is logged, in a world in which everything takes 250.16 milliseconds."""
    monkeypatch.setattr(time, "perf_counter", itertools.count(100, 0.25016).__next__)
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        (STRANGER, "", STRANGER),
        (STRANGER, "192.0.2.1", STRANGER),  # forged
        (PROXY, "", PROXY),
        (PROXY, "192.0.2.1", "192.0.2.1"),
        (PROXY, "192.0.2.1:4711", "192.0.2.1"),
        (PROXY, "2001:db8::1", "2001:db8::1"),
        (PROXY, "[2001:db8::1]:4711", "2001:db8::1"),
        (PROXY, "203.0.113.9, 192.0.2.1", "192.0.2.1"),  # the first is forged
        (PROXY, "192.0.2.1, 10.0.0.4", "192.0.2.1"),  # two proxies of ours
        (PROXY, "192.0.2.1, nonsense", PROXY),
        (PROXY, "fe80::1%<b>", PROXY),
        ("::ffff:127.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:198.51.100.7", "", "198.51.100.7"),
        ("", "192.0.2.1", "192.0.2.1"),  # a Unix socket
    ],
)
def test_client_is_the_first_address_that_is_no_proxy_of_ours(
    peer: str, forwarded_for: str, address: str
) -> None:
    headers = {"x-forwarded-for": forwarded_for}

    assert identify(peer, False, lambda name: headers.get(name, "")).address == address


@pytest.mark.parametrize(
    ("peer", "encrypted", "proto", "secure"),
    [
        (PROXY, False, "https", True),
        (PROXY, False, "wss", True),
        (PROXY, False, "http, HTTPS ", True),  # the newest hop stands last
        (PROXY, False, "", False),
        (PROXY, True, "", True),
        (PROXY, True, "http", False),
        (PROXY, True, "ws", False),
        (PROXY, True, "https,http", False),
        (STRANGER, False, "https", False),
        (STRANGER, True, "http", True),
    ],
)
def test_scheme_is_believed_from_a_proxy_only(
    peer: str, encrypted: bool, proto: str, secure: bool
) -> None:
    headers = {"x-forwarded-proto": proto}

    assert identify(peer, encrypted, lambda name: headers.get(name, "")).secure is secure


def test_request_id_is_believed_from_a_proxy_only() -> None:
    def request_id(peer: str, value: str) -> str:
        headers = {"x-request-id": value}
        return identify(peer, False, lambda name: headers.get(name, "")).request_id

    assert request_id(PROXY, "abc-1") == "abc-1"
    assert request_id(STRANGER, "abc-1") != "abc-1"
    assert request_id(PROXY, 'a"}\n{"forged') != 'a"}\n{"forged'
    assert request_id(PROXY, "a" * 128) == "a" * 128
    assert request_id(PROXY, "a" * 129) != "a" * 129
    assert request_id(PROXY, "") != request_id(PROXY, "")
{% if cookiecutter.__wsgi %}


def test_wsgi_application_sees_the_client_and_no_forwarded_header() -> None:
    seen = {}
    sent = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", [("A", "b")])
        return [b""]

    WSGIEdge(application)(
        {
            "REMOTE_ADDR": PROXY,
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "wsgi.url_scheme": "http",
            **{f"HTTP_{name}".upper().replace("-", "_"): "any" for name in FORWARDED},
            "HTTP_X_FORWARDED_FOR": "192.0.2.1",
            "HTTP_X_FORWARDED_PROTO": "https",
            "HTTP_X_REQUEST_ID": "abc-1",
        },
        lambda status, headers, exc_info: sent.append((status, headers, exc_info)),
    )

    assert seen["REMOTE_ADDR"] == "192.0.2.1"
    assert seen["wsgi.url_scheme"] == "https"
    assert not any("FORWARDED" in name or "REAL_IP" in name for name in seen)
    assert seen["HTTP_X_REQUEST_ID"] == "abc-1"
    assert sent == [("200 OK", [("A", "b"), ("X-Request-ID", "abc-1")], None)]


def ask(
    lines: list[Any], status: str = "200 OK", **environ: Any
) -> tuple[list[Any], list[bytes]]:
    """Send a WSGI application a request through the edge; return what came back."""
    sent: list[Any] = []

    class Body(list[bytes]):
        def close(self) -> None:
            lines.append("closed")

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        lines.append(structlog.contextvars.get_contextvars() | {"environ": environ})
        start_response(status, [])
        return Body([b"body"])

    request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.url_scheme": "http"}
    body = WSGIEdge(application)(
        request | environ, lambda status, headers, _: sent.extend([status, *headers])
    )
    return sent, list(body)


def test_wsgi_request_has_an_access_line(lines: list[Any]) -> None:
    structlog.contextvars.bind_contextvars(left="by another request")

    sent, _ = ask(
        lines,
        "302 Found",
        REMOTE_ADDR=PROXY,
        HTTP_HOST="shop.example",
        PATH_INFO="/buy/",
        REQUEST_METHOD="POST",
    )

    (bound, line) = lines
    assert list(bound) == ["request_id", "environ"]
    assert len(bound["request_id"]) == 32
    assert bound["environ"]["HTTP_X_REQUEST_ID"] == bound["request_id"]
    assert sent == ["302 Found", ("X-Request-ID", bound["request_id"])]
    assert line == ACCESS_LINE


def test_wsgi_probe_has_no_access_line(lines: list[Any]) -> None:
    ask(lines, PATH_INFO="/health/live")

    assert len(lines) == 1  # of the application


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_wsgi_scheme_is_that_of_the_connection_without_a_proxy(scheme: str) -> None:
    lines: list[Any] = []

    ask(lines, **{"REMOTE_ADDR": STRANGER, "wsgi.url_scheme": scheme})

    assert lines[0]["environ"]["wsgi.url_scheme"] == scheme


def test_wsgi_request_without_a_host_or_a_peer_is_answered(lines: list[Any]) -> None:
    ask(lines)

    assert (lines[1]["host"], lines[1]["client"]) == ("", "")


def test_wsgi_answer_to_head_has_no_body(lines: list[Any]) -> None:
    assert ask(lines)[1] == [b"body"]
    assert "closed" not in lines

    sent, body = ask(lines, REQUEST_METHOD="HEAD")

    assert (sent[0], body) == ("200 OK", [])
    assert lines[-1] == "closed"


def test_wsgi_application_gets_a_body_whose_length_nobody_told() -> None:
    seen: list[bytes] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start_response("200 OK", [])
        return [b""]

    # The last one is as large as it may be.
    bodies = [b"in one piece", b"in several" * 20_000, bytes(MAX_BODY)]
    for body in bodies:
        WSGIEdge(application)(
            {
                "REQUEST_METHOD": "POST",
                "PATH_INFO": "/",
                "wsgi.url_scheme": "http",
                "HTTP_TRANSFER_ENCODING": "chunked",
                "wsgi.input": io.BytesIO(body),
                "wsgi.input_terminated": True,
            },
            lambda status, headers, exc_info: None,
        )

    assert seen == bodies


@pytest.mark.parametrize("header", ["HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_SSL"])
def test_scheme_that_uwsgi_has_of_a_header_is_not_believed(header: str) -> None:
    def scheme(peer: str, **told: Any) -> Any:
        lines: list[Any] = []
        ask(lines, REMOTE_ADDR=peer, **{"wsgi.url_scheme": "https"} | told)
        return lines[0]["environ"]["wsgi.url_scheme"]

    uwsgi: Any = {"uwsgi.version": b"2"}
    assert scheme(STRANGER, **uwsgi) == "https"
    assert scheme(STRANGER, **uwsgi, **{header: "https"}) == "http"
    # Other servers believe their proxies only, and may have put the client in their place.
    assert scheme(STRANGER, **{header: "https"}) == "https"
    assert scheme(PROXY, **uwsgi, HTTP_X_FORWARDED_PROTO="https") == "https"


def test_wsgi_server_that_does_not_end_a_body_in_pieces_is_not_asked_for_it() -> None:
    """uWSGI gives nothing of it, wsgiref waits for ever."""
    told: Any = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": None}

    assert ask([], REQUEST_METHOD="POST", **told)[0][0] == "411 Length Required"


@pytest.mark.parametrize("length", [str(MAX_BODY), "0", "", "nonsense"])
def test_wsgi_application_gets_a_body_that_is_not_too_large(length: str) -> None:
    lines: list[Any] = []

    assert ask(lines, REQUEST_METHOD="POST", CONTENT_LENGTH=length)[0][0] == "200 OK"
    assert ask(lines, CONTENT_LENGTH="1", HTTP_TRANSFER_ENCODING="x")[0][0] == "200 OK"


@pytest.mark.parametrize(
    "told", [{"CONTENT_LENGTH": str(MAX_BODY + 1)}, {"HTTP_TRANSFER_ENCODING": "chunked"}]
)
def test_wsgi_application_gets_no_body_that_is_too_large(told: dict[str, str]) -> None:
    sent: list[Any] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        raise AssertionError("it was asked")

    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(bytes(MAX_BODY + 1)),
        "wsgi.input_terminated": True,
    }

    def start_response(status: str, headers: Any, _: Any) -> None:
        sent.extend([status, dict(headers)])

    with structlog.testing.capture_logs([merge_contextvars]) as lines:
        (page,) = WSGIEdge(application)(environ | told, start_response)

    status, headers = sent
    assert status == "413 Content Too Large"
    assert (headers["Content-Type"], headers["Content-Length"]) == (
        "text/html; charset=utf-8",
        str(len(page)),
    )
    assert f"takes at most {MAX_BODY // 1024**2} MB at once".encode() in page
    (line,) = lines
    assert (line["status"], line["refused"]) == (413, "body larger than MAX_BODY")
    environ |= {"REQUEST_METHOD": "HEAD", "CONTENT_LENGTH": str(MAX_BODY + 1)}
    assert WSGIEdge(application)(environ, start_response) == []
{% endif %}
{% if cookiecutter.__asgi %}


{% if cookiecutter.__channels %}
@pytest.mark.parametrize("kind", ["http", "websocket"])
{% else %}
@pytest.mark.parametrize("kind", ["http"])
{% endif %}
def test_asgi_application_sees_the_client_and_no_forwarded_header(kind: str) -> None:
    seen: dict[str, Any] = {}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        start = "http.response.start" if kind == "http" else "websocket.accept"
        await send({"type": start, "status": 200, "headers": [(b"a", b"b")]})

    headers = [
        *((name.encode(), b"192.0.2.1") for name in FORWARDED if "Proto" not in name),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-for", b"10.0.0.4"),  # of the next proxy
        (b"x_forwarded_for", b"203.0.113.9"),
        (b"x-request-id", b"abc-1"),
        (b"c", b"d"),
    ]
    sent = run(application, kind, headers)

    assert seen["client"] == ("192.0.2.1", 4711)
    assert seen["scheme"] == {"http": "https", "websocket": "wss"}[kind]
    assert seen["headers"] == [(b"c", b"d"), (b"x-request-id", b"abc-1")]
    assert sent[0]["headers"] == [(b"a", b"b"), (b"x-request-id", b"abc-1")]


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 302})
    await send({"type": "http.response.body"})


def test_asgi_request_has_an_access_line(lines: list[Any]) -> None:
    structlog.contextvars.bind_contextvars(left="by another request")
    bound: dict[str, Any] = {}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        bound.update(structlog.contextvars.get_contextvars())
        await answer(scope, receive, send)

    run(application, "http", [(b"host", b"shop.example")], path="/buy/", method="POST")

    assert list(bound) == ["request_id"]
    assert len(bound["request_id"]) == 32
    assert lines == [ACCESS_LINE]


def test_asgi_probe_has_no_access_line(lines: list[Any]) -> None:
    run(answer, "http", [], path="/health/live")

    assert lines == []


def test_asgi_request_without_a_host_or_a_peer_is_answered(lines: list[Any]) -> None:
    seen: dict[str, Any] = {}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await answer(scope, receive, send)

    run(application, "http", [], client=None, scheme=None)

    assert (seen["client"], seen["scheme"]) == (("", 0), "http")
    assert (lines[0]["host"], lines[0]["client"]) == ("", "")
    run(application, "http", [], scheme="https")
    assert seen["scheme"] == "https"


def test_asgi_application_that_raises_is_in_the_access_log(lines: list[Any]) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        run(application, "http", [])

    assert lines[0]["status"] == 500


def test_asgi_application_gets_the_events_of_its_server_process() -> None:
    seen: list[Any] = []

    async def application(*arguments: Any) -> None:
        seen.extend(arguments)

    event: Any = ({"type": "lifespan"}, "receive", "send")
    async_to_sync(ASGIEdge(application))(*event)

    assert seen == list(event)


def test_server_process_of_an_application_that_knows_no_events_begins_and_ends() -> None:
    """As Django, which raises before it receives anything."""
    asked, told = ["startup", "shutdown"], []

    async def application(*arguments: Any) -> None:
        raise ValueError

    async def receive() -> Any:
        return {"type": f"lifespan.{asked.pop(0)}"}

    async def send(event: Any) -> None:
        told.append(event["type"])

    async_to_sync(ASGIEdge(application))({"type": "lifespan"}, receive, send)

    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
{% if cookiecutter.__channels %}


ACCEPT, CLOSE = {"type": "websocket.accept"}, {"type": "websocket.close"}


@pytest.mark.parametrize(
    ("events", "status", "code"),
    [
        ([ACCEPT], 101, 1001),
        ([ACCEPT, CLOSE | {"code": 4000}], 101, 4000),
        ([ACCEPT, CLOSE], 101, 1000),
        ([CLOSE], 403, 1000),
    ],
)
def test_websocket_has_an_access_line_with_its_end(
    lines: list[Any], events: list[Any], status: int, code: int
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for event in events:
            await send(event)
        assert (await receive())["type"] == "websocket.disconnect"

    sent = run(application, "websocket", [], path="/ws/")

    assert [event["type"] for event in sent] == [event["type"] for event in events]
    (line,) = lines
    assert (line["event"], line["path"], line["method"]) == ("websocket", "/ws/", "GET")
    assert (line["status"], line["code"]) == (status, code)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_websocket_scheme_is_that_of_the_connection_without_a_proxy(scheme: str) -> None:
    seen: dict[str, Any] = {}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope, open=metrics.OPEN["sockets"])

    before = metrics.OPEN["sockets"]
    run(application, "websocket", [], scheme=scheme, client=(STRANGER, 4711))

    assert seen["scheme"] == scheme
    assert (seen["open"], metrics.OPEN["sockets"]) == (before + 1, before)
{% endif %}
{% if not cookiecutter.__channels %}


def test_websocket_is_refused(lines: list[Any]) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("Django can only handle ASGI/HTTP connections, not websocket.")

    assert [event["type"] for event in run(application, "websocket", [])] == [
        "websocket.close"
    ]
    (line,) = lines
    assert (line["event"], line["method"]) == ("websocket", "GET")
    assert (line["status"], line["code"]) == (403, 1000)
{% endif %}


@pytest.mark.parametrize("length", [str(MAX_BODY + 1), None])
def test_asgi_application_gets_no_body_that_is_too_large(length: str | None) -> None:
    seen: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while seen[-1:] != ["http.disconnect"]:
            seen.append((await receive())["type"])

    headers = [(b"content-length", length.encode())] if length else []
    with structlog.testing.capture_logs([merge_contextvars]) as lines:
        sent = run(application, "http", headers, bytes(MAX_BODY // 2))

    (line,) = lines
    start, body = sent
    assert (start["type"], start["status"]) == ("http.response.start", 413)
    page = body["body"]
    assert start["headers"][:2] == [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(page)).encode()),
    ]
    assert body == {"type": "http.response.body", "body": page}
    assert f"takes at most {MAX_BODY // 1024**2} MB at once".encode() in page
    assert (line["status"], line["refused"]) == (413, "body larger than MAX_BODY")
    assert seen == ([] if length else ["http.request", "http.request", "http.disconnect"])


def test_asgi_application_that_has_answered_already_is_not_spoken_over() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await answer(scope, receive, send)
        while (await receive())["type"] != "http.disconnect":
            pass

    sent = run(application, "http", [], bytes(MAX_BODY // 2))

    assert [event.get("status") for event in sent] == [302, None]


@pytest.mark.parametrize("length", [str(MAX_BODY), "0", "nonsense"])
def test_asgi_application_gets_a_body_that_is_not_too_large(length: str) -> None:
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([await receive(), await receive()])
        await answer(scope, receive, send)

    piece = bytes(MAX_BODY // 2)
    sent = run(application, "http", [(b"content-length", length.encode())], piece)

    assert [event["body"] for event in seen] == [piece, piece]
    assert sent[0]["status"] == 302


def run(
    application: Any,
    kind: str,
    headers: list[tuple[bytes, bytes]],
    piece: bytes = b"",
    **changes: Any,
) -> list[Any]:
    """Send `application` a request through the edge, from a proxy; return its events.

    With `piece` it has a body of these again and again. In its scope there are `changes`;
    None stands for what is not there.
    """
    events = []
    incoming = iter([f"{kind}.connect", f"{kind}.disconnect"])

    async def receive() -> Any:
        if piece:
            return {"type": "http.request", "body": piece, "more_body": True}
        return {"type": next(incoming), "code": 1001}

    async def send(event: Any) -> None:
        events.append(event)

    scope: Any = {
        "type": kind,
        "path": "/",
        "scheme": {"http": "http", "websocket": "ws"}[kind],
        "client": (PROXY, 4711),
        "headers": headers,
    }
    scope = {name: value for name, value in (scope | changes).items() if value is not None}
    async_to_sync(ASGIEdge(application))(scope, receive, send)
    return events
{% endif %}
