"""Packages for programs that ask: REST, GraphQL, other origins."""

import json
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.compat.shop import Shop, row, word

pytestmark = pytest.mark.compat


@row("djangorestframework")
def test_rest_framework(shop: Shop) -> None:
    """A ModelViewSet, read by anybody and changed by who may; the browsable API."""
    for prefix in shop.prefixes:
        address, book = f"{prefix}/drf/books/", {"title": word(), "price": 3}
        with shop.browser() as client:
            assert "guarded" in [found["title"] for found in client.get(address).json()]
            assert client.post(address, json=book).status_code == 403
        with shop.browser("ada") as client:
            token = {"X-CSRFToken": client.cookies["csrftoken"]}
            assert client.post(address, json=book).status_code == 403
            created = client.post(address, json=book, headers=token)
            assert created.status_code == 201
            detail = f"{address}{created.json()['id']}/"
            assert client.get(detail).json() == created.json()
            page = client.get(detail, headers={"Accept": "text/html"})
            assert "<form" in page.text
            assert book["title"] in page.text


@row("django-ninja")
def test_ninja(shop: Shop) -> None:
    """A sync and an async operation, a wrong parameter, the documentation page."""
    for prefix in shop.prefixes:
        for operation in ("books", "abooks"):
            address = f"{prefix}/ninja/{operation}"
            (book,) = shop.site.get(f"{address}?title=guarded").json()
            assert book == {"id": book["id"], "title": "guarded", "price": 10}
            assert shop.site.get(address).status_code == 422
        assert "swagger" in shop.site.get(f"{prefix}/ninja/docs").text


@row("django-cors-headers")
def test_cors_headers(shop: Shop) -> None:
    """A request and a preflight of the allowed origin, and of another."""

    def allowed(method: str, path: str, origin: str) -> str | None:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        response = httpx.request(method, shop.site.origin + path, headers=headers, timeout=20)
        assert response.status_code == 200
        return response.headers.get("Access-Control-Allow-Origin")

    for prefix in shop.prefixes:
        for path in (f"{prefix}/page/", f"{prefix}/apage/"):
            for method in ("GET", "OPTIONS"):
                assert allowed(method, path, "https://shop.example") == "https://shop.example"
                assert allowed(method, path, "https://other.example") is None


@row("strawberry-graphql")
def test_strawberry(shop: Shop) -> None:
    """A query over HTTP, sync and async; with Channels a query and a subscription as well."""
    hello = '{ hello(name: "Ada") }'
    for prefix in shop.prefixes:
        for view in ("graphql", "agraphql"):
            address = f"{shop.site.origin}{prefix}/{view}/"
            answer = httpx.post(address, json={"query": hello}, timeout=20).json()
            assert answer["data"] == {"hello": "Hello Ada"}
    if not shop.site.project.is_(realtime="channels"):
        return
    with connect(
        f"ws://localhost:{shop.site.port}/ws/graphql/",
        origin=shop.site.origin,  # type: ignore[arg-type]
        subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
        proxy=None,
    ) as socket:

        def ask(key: str, query: str) -> list[Any]:
            payload = {"query": query}
            socket.send(json.dumps({"id": key, "type": "subscribe", "payload": payload}))
            found = []
            while (frame := json.loads(socket.recv(timeout=15)))["type"] == "next":
                found.append(frame["payload"]["data"])
            assert frame == {"id": key, "type": "complete"}
            return found

        socket.send('{"type": "connection_init"}')
        assert json.loads(socket.recv(timeout=15))["type"] == "connection_ack"
        assert ask("1", hello) == [{"hello": "Hello Ada"}]
        assert ask("2", "subscription { count(target: 3) }") == [{"count": n} for n in range(3)]
