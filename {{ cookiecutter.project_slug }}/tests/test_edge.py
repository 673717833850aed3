"""Who is asking, and the id of a request (config/edge.py)."""

{% if cookiecutter.__wsgi %}
import io
{% endif %}
from typing import Any

import pytest
{% if cookiecutter.__asgi %}
from asgiref.sync import async_to_sync
{% endif %}

{% if cookiecutter.__wsgi and cookiecutter.__asgi %}
from config.edge import MAX_BODY, ASGIEdge, WSGIEdge, identify
{% elif cookiecutter.__wsgi %}
from config.edge import MAX_BODY, WSGIEdge, identify
{% else %}
from config.edge import MAX_BODY, ASGIEdge, identify
{% endif %}

PROXY = "127.0.0.1"
STRANGER = "198.51.100.7"


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
    ("peer", "proto", "secure"),
    [
        (PROXY, "https", True),
        (PROXY, "wss", True),
        (PROXY, "", False),
        (STRANGER, "https", False),
    ],
)
def test_scheme_is_believed_from_a_proxy_only(peer: str, proto: str, secure: bool) -> None:
    headers = {"x-forwarded-proto": proto}

    assert identify(peer, False, lambda name: headers.get(name, "")).secure is secure


def test_request_id_is_believed_from_a_proxy_only() -> None:
    def request_id(peer: str, value: str) -> str:
        headers = {"x-request-id": value}
        return identify(peer, False, lambda name: headers.get(name, "")).request_id

    assert request_id(PROXY, "abc-1") == "abc-1"
    assert request_id(STRANGER, "abc-1") != "abc-1"
    assert request_id(PROXY, 'a"}\n{"forged') != 'a"}\n{"forged'
    assert request_id(PROXY, "") != request_id(PROXY, "")
{% if cookiecutter.__wsgi %}


def test_wsgi_application_sees_the_client_and_no_forwarded_header() -> None:
    seen = {}
    sent = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", [])
        return [b""]

    WSGIEdge(application)(
        {
            "REMOTE_ADDR": PROXY,
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "wsgi.url_scheme": "http",
            "HTTP_X_FORWARDED_FOR": "192.0.2.1",
            "HTTP_X_FORWARDED_PROTO": "https",
            "HTTP_X_REAL_IP": "192.0.2.1",
            "HTTP_X_REQUEST_ID": "abc-1",
        },
        lambda status, headers, exc_info: sent.append(headers),
    )

    assert seen["REMOTE_ADDR"] == "192.0.2.1"
    assert seen["wsgi.url_scheme"] == "https"
    assert not any("FORWARDED" in name or "REAL_IP" in name for name in seen)
    assert sent == [[("X-Request-ID", "abc-1")]]


def test_wsgi_application_gets_a_body_whose_length_nobody_told() -> None:
    seen: list[bytes] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start_response("200 OK", [])
        return [b""]

    WSGIEdge(application)(
        {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/",
            "wsgi.url_scheme": "http",
            "HTTP_TRANSFER_ENCODING": "chunked",
            "wsgi.input": io.BytesIO(b"in two pieces"),
        },
        lambda status, headers, exc_info: None,
    )

    assert seen == [b"in two pieces"]


@pytest.mark.parametrize(
    "told", [{"CONTENT_LENGTH": str(MAX_BODY + 1)}, {"HTTP_TRANSFER_ENCODING": "chunked"}]
)
def test_wsgi_application_gets_no_body_that_is_too_large(told: dict[str, str]) -> None:
    sent: list[str] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        raise AssertionError("it was asked")

    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(bytes(MAX_BODY + 1)),
    }
    WSGIEdge(application)(environ | told, lambda status, headers, _: sent.append(status))

    assert sent == ["413 Content Too Large"]
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
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"x-forwarded-proto", b"https"),
        (b"x_forwarded_for", b"203.0.113.9"),
        (b"x-request-id", b"abc-1"),
    ]
    sent = run(application, kind, headers)

    assert seen["client"][0] == "192.0.2.1"
    assert seen["scheme"] == {"http": "https", "websocket": "wss"}[kind]
    assert seen["headers"] == [(b"x-request-id", b"abc-1")]
    assert sent[0]["headers"] == [(b"a", b"b"), (b"x-request-id", b"abc-1")]
{% if not cookiecutter.__channels %}


def test_websocket_is_refused() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("Django can only handle ASGI/HTTP connections, not websocket.")

    assert [event["type"] for event in run(application, "websocket", [])] == [
        "websocket.close"
    ]
{% endif %}


@pytest.mark.parametrize("length", [str(MAX_BODY + 1), None])
def test_asgi_application_gets_no_body_that_is_too_large(length: str | None) -> None:
    seen: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while seen[-1:] != ["http.disconnect"]:
            seen.append((await receive())["type"])

    headers = [(b"content-length", length.encode())] if length else []
    sent = run(application, "http", headers, bytes(MAX_BODY // 2))

    assert [event.get("status") for event in sent] == [413, None]
    assert seen == ([] if length else ["http.request", "http.request", "http.disconnect"])


def run(
    application: Any, kind: str, headers: list[tuple[bytes, bytes]], piece: bytes = b""
) -> list[Any]:
    """Send `application` a request through the edge, from a proxy; return its events.

    With `piece` it has a body of these again and again.
    """
    events = []

    async def receive() -> Any:
        if piece:
            return {"type": "http.request", "body": piece, "more_body": True}
        return {"type": f"{kind}.connect"}

    async def send(event: Any) -> None:
        events.append(event)

    scope: Any = {
        "type": kind,
        "path": "/",
        "scheme": {"http": "http", "websocket": "ws"}[kind],
        "client": (PROXY, 4711),
        "headers": headers,
    }
    async_to_sync(ASGIEdge(application))(scope, receive, send)
    return events
{% endif %}
