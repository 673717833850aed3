"""Code that works on Django as it ships: views as people write them."""

import asyncio
import os
import threading
import time
import urllib.request
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_not_required
from django.core.cache import cache
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from django.utils.translation import get_language

OTHER_SITE = int(os.environ.get("FIDELITY_OTHER_SITE", "0"))
local = threading.local()


def seconds_of(request: HttpRequest) -> float:
    return float(request.GET.get("seconds", "0"))


def users() -> int:
    return get_user_model().objects.count()


async def ausers() -> int:
    return await get_user_model().objects.acount()


async def ask_other_site(seconds: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", OTHER_SITE)
    writer.write(f"GET /?seconds={seconds} HTTP/1.1\r\nHost: other\r\n\r\n".encode())
    assert b"200 OK" in await reader.read()
    writer.close()


# Async views


async def query_wait(request: HttpRequest) -> JsonResponse:
    await ausers()
    await ask_other_site(seconds_of(request))
    return JsonResponse({"answered": True})


async def query_wait_query(request: HttpRequest) -> JsonResponse:
    await ausers()
    await ask_other_site(seconds_of(request))
    return JsonResponse({"users": await ausers()})


@login_not_required
async def wait(request: HttpRequest) -> JsonResponse:
    await asyncio.sleep(seconds_of(request))
    return JsonResponse({"answered": True})


async def fail(request: HttpRequest) -> JsonResponse:
    await ausers()
    raise LookupError("for a test")


async def to_thread(request: HttpRequest) -> JsonResponse:
    await asyncio.to_thread(time.sleep, seconds_of(request))
    return JsonResponse({"answered": True})


async def block_loop(request: HttpRequest) -> JsonResponse:
    time.sleep(seconds_of(request))
    return JsonResponse({"answered": True})


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def ticks() -> AsyncIterator[str]:
        while True:
            yield f"tick {await ausers()}\n"
            await asyncio.sleep(0.5)

    await ausers()
    return StreamingHttpResponse(ticks(), content_type="text/plain")


async def hold_transaction(request: HttpRequest) -> JsonResponse:
    def hold() -> None:
        with transaction.atomic():
            users()
            time.sleep(seconds_of(request))

    await sync_to_async(hold)()
    return JsonResponse({"users": await ausers()})


# State that a library keeps: on the thread, and on the connection


def set_state(value: str) -> None:
    local.value = value
    with connection.cursor() as cursor:
        cursor.execute("select set_config('app.tenant', %s, false)", [value])
        cursor.execute("select set_config('search_path', %s, false)", [f"public, t{value}"])


def own_state(value: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select current_setting('app.tenant', true)")
        tenant = cursor.fetchone()[0]
        cursor.execute("show search_path")
        path = cursor.fetchone()[0]
    return (getattr(local, "value", None), tenant, path) == (value, value, f"public, t{value}")


async def thread_local(request: HttpRequest) -> JsonResponse:
    def keep(value: str) -> None:
        local.value = value

    await sync_to_async(keep)(request.GET["value"])
    await asyncio.sleep(0.5)
    value = await sync_to_async(lambda: getattr(local, "value", None))()
    return JsonResponse({"own": value == request.GET["value"]})


async def tenant(request: HttpRequest) -> JsonResponse:
    value = request.GET["value"]
    await sync_to_async(set_state)(value)
    await asyncio.sleep(0.5)
    return JsonResponse({"own": await sync_to_async(own_state)(value)})


async def stream_of_tenant(request: HttpRequest) -> StreamingHttpResponse:
    value = request.GET["value"]
    await sync_to_async(set_state)(value)

    async def pieces() -> AsyncIterator[str]:
        for _ in range(4):
            await asyncio.sleep(0.4)
            yield "own " if await sync_to_async(own_state)(value) else "lost "

    return StreamingHttpResponse(pieces(), content_type="text/plain")


# Pages


@login_not_required
def page(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"users": users()})


def slow(request: HttpRequest) -> JsonResponse:
    url = f"http://127.0.0.1:{OTHER_SITE}/?seconds={seconds_of(request)}"
    with urllib.request.urlopen(url) as answer:
        return JsonResponse({"answered": answer.status == 200})


def block(request: HttpRequest) -> HttpResponse:
    time.sleep(0.05)
    return HttpResponse("blocked")


def stream_from_page(request: HttpRequest) -> StreamingHttpResponse:
    async def ticks() -> AsyncIterator[str]:
        while True:
            yield "tick\n"
            await asyncio.sleep(0.5)

    return StreamingHttpResponse(ticks(), content_type="text/plain")


def run_loop(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"users": asyncio.run(ausers())})


def sleep_in_database(request: HttpRequest) -> JsonResponse:
    with connection.cursor() as cursor:
        cursor.execute("select pg_sleep(%s)", [seconds_of(request)])
    return JsonResponse({"answered": True})


def page_of_own_site(request: HttpRequest) -> JsonResponse:
    url = f"http://127.0.0.1:{request.get_port()}/f/page/"
    with urllib.request.urlopen(url) as answer:
        return JsonResponse({"answered": answer.status == 200})


def cached(request: HttpRequest) -> JsonResponse:
    cache.set("fidelity", "kept", timeout=60)
    return JsonResponse({"answered": cache.get("fidelity") == "kept"})


def fail_page(request: HttpRequest) -> JsonResponse:
    with transaction.atomic():
        users()
        raise LookupError("for a test")


def language(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"language": get_language(), "chain": request.chain})  # type: ignore[attr-defined]


# What tracers see


def traced(request: HttpRequest) -> None:
    if os.environ.get("FIDELITY_TRACER") == "sentry":
        import sentry_sdk

        sentry_sdk.add_breadcrumb(category="fidelity", message=request.path)


def end(request: HttpRequest) -> JsonResponse:
    if "fail" in request.path:
        raise LookupError("for a test")
    return JsonResponse({"answered": True})


async def traced_view(request: HttpRequest, name: str) -> JsonResponse:
    traced(request)
    await asyncio.sleep(0.3)
    return end(request)


def traced_page(request: HttpRequest, name: str) -> JsonResponse:
    traced(request)
    time.sleep(0.3)
    return end(request)


urlpatterns = [
    *(
        path(f"f/{view.__name__.replace('_', '-')}/", view)
        for view in (
            query_wait, query_wait_query, wait, fail, to_thread, block_loop, stream,
            hold_transaction, thread_local, tenant, stream_of_tenant, page, slow, block,
            stream_from_page, run_loop, sleep_in_database, page_of_own_site, cached, fail_page,
        )
    ),
    path("f/traced-view/<name>/", traced_view),
    path("f/traced-page/<name>/", traced_page),
    path("", include("config.urls")),
]  # fmt: skip
if os.environ.get("FIDELITY_I18N"):
    urlpatterns += [path("f/language/", language), *i18n_patterns(path("f/language/", language))]
