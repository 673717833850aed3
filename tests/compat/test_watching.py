"""Packages that watch each request."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.compat.shop import Shop, not_yet, row, word
from tests.services import wait_until

pytestmark = pytest.mark.compat


@row("django-debug-toolbar")
def test_debug_toolbar(shop: Shop) -> None:
    """The panels are in a page with DEBUG, and nothing of them without."""
    for prefix in shop.prefixes:
        for page in ("page", "apage"):
            assert ('id="djDebug"' in shop.site.get(f"{prefix}/{page}/").text) == shop.debug


@not_yet("django-debug-toolbar")
def test_debug_toolbar_and_the_async_cache(shop: Shop) -> None:
    """With its cache panel the cache's `aincr()`, `aget_many()` and others raise AttributeError."""
    response = shop.site.get(f"{shop.prefixes[-1]}/acached/{word()}/")
    assert response.status_code == (500 if shop.debug else 200)
    if shop.debug:
        # Django compares methods, of which the panel has put functions in the place.
        assert "'function' object has no attribute '__func__'" in shop.site.log


@row("django-silk")
def test_silk(shop: Shop) -> None:
    """Requests of sync and of async views are recorded, with their queries."""
    for prefix in shop.prefixes:
        for operation in ("books", "abooks"):
            title = word()
            address = f"{prefix}/ninja/{operation}"
            assert shop.site.get(f"{address}?title={title}").json() == []
            page = shop.site.get(f"/silk/requests/?path={address}&limit=200").text
            assert address in page


@row("opentelemetry-instrumentation-django")
def test_opentelemetry(shop: Shop) -> None:
    """One span for each of many requests at once, with its route and status."""
    for prefix in shop.prefixes:
        for view in ("page", "apage"):
            paths = [f"{prefix}/{view}/{word()}/" for _ in range(10)]
            with ThreadPoolExecutor(10) as pool:
                list(pool.map(shop.site.get, paths))
            traces = set()
            for path in paths:
                wait_until(lambda path=path: shop.spans(path), f"there is a span of {path}")
                (span,) = shop.spans(path)
                assert span["kind"] == "SpanKind.SERVER"
                route = f"{prefix}/{view}/<word>/".removeprefix("/")
                assert span["attributes"]["http.route"] == route
                assert span["attributes"]["http.status_code"] == 200
                traces.add(span["context"]["trace_id"])
            assert len(traces) == 10
