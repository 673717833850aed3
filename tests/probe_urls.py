"""What tests need beside the emitted site; copied into the projects as their root URLconf.

Views that take their time, query, stream, and tell what Django knows of a request.
"""

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from importlib import import_module

from config.urls import handler500 as handler500
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.files.storage import default_storage
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from serving import threads

# Seconds between the heartbeats of the emitted streams, where a test has not the time to wait.
if seconds := os.environ.get("PROBE_HEARTBEAT"):
    streams = import_module(f"{apps.get_app_config('notifications').name}.streams")
    streams.HEARTBEAT_INTERVAL = float(seconds)

# Bounds so low that a test can reach them, and has the time to.
if bound := os.environ.get("PROBE_THREADS"):
    for pool in threads.POOLS:
        pool.max_threads = int(bound)
    threads.MAX_WAIT = float(os.environ.get("PROBE_MAX_WAIT", "50"))
    threads.STUCK_AFTER = threads.BLOCKED_AFTER = float(os.environ.get("PROBE_STUCK_AFTER", "90"))
    threads.REPLACE_AFTER, threads.KILL_AFTER = 4, 10


def slow(request: HttpRequest) -> JsonResponse:
    time.sleep(3)
    return JsonResponse({"slept": 3})


def wait(request: HttpRequest, seconds: int) -> JsonResponse:
    time.sleep(seconds)
    return JsonResponse({"pid": os.getpid()})


async def block(request: HttpRequest, seconds: int) -> JsonResponse:
    """Hold up the event loop, as no async view should."""
    time.sleep(seconds)
    return JsonResponse({"pid": os.getpid()})


def request_facts(request: HttpRequest) -> JsonResponse:
    return JsonResponse(
        {
            "pid": os.getpid(),
            "address": request.META["REMOTE_ADDR"],
            "secure": request.is_secure(),
            "forwarded": [n for n in request.META if "FORWARDED" in n or "REAL_IP" in n],
            "request_id": request.headers.get("X-Request-ID"),
        }
    )


@csrf_exempt
def echo(request: HttpRequest, word: str) -> JsonResponse:
    """Tell whose answer this is, and what the request was to Django."""
    return JsonResponse({"word": word, "length": len(request.body), "cookies": request.COOKIES})


@csrf_exempt
def upload(request: HttpRequest) -> JsonResponse:
    """Tell what came as the body."""
    digest, size = hashlib.sha256(), 0
    while piece := request.read(64 * 1024):
        digest.update(piece)
        size += len(piece)
    return JsonResponse({"sha256": digest.hexdigest(), "bytes": size})


@csrf_exempt
def keep(request: HttpRequest) -> HttpResponse:
    """Keep a file as a FileField does, and tell its address."""
    name = default_storage.save(f"new/page.{request.GET['kind']}", request.FILES["file"])
    return HttpResponse(default_storage.url(name))


def publish(request: HttpRequest, room: str, text: str) -> JsonResponse:
    """Say something in a room of the chat, from a sync view."""
    posting = import_module(f"{apps.get_app_config('chat').name}.posting")
    author = get_user_model().objects.get(username="ada")
    return JsonResponse({"id": posting.publish(room, author, text).pk})


def query(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"users": get_user_model().objects.count()})


async def async_wait(request: HttpRequest, seconds: int = 1) -> HttpResponse:
    await asyncio.sleep(seconds)
    return HttpResponse("waited")


async def async_query(request: HttpRequest) -> JsonResponse:
    users = await get_user_model().objects.acount()
    await asyncio.sleep(0.01)
    return JsonResponse({"users": users, "again": await get_user_model().objects.acount()})


async def async_form(request: HttpRequest) -> HttpResponse:
    """Give the token of a form; return its text."""
    if request.method == "POST":
        return HttpResponse(request.POST["text"])
    return HttpResponse(get_token(request))


async def async_failure(request: HttpRequest) -> JsonResponse:
    await get_user_model().objects.acount()
    raise LookupError("for a test")


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    await get_user_model().objects.acount()

    async def users() -> AsyncIterator[str]:
        while True:
            yield f"{await get_user_model().objects.acount()}\n"
            await asyncio.sleep(0.2)

    return StreamingHttpResponse(users(), content_type="text/plain")


def sync_stream(request: HttpRequest) -> StreamingHttpResponse:
    """What a report does that is sent while it is made."""

    def users() -> Iterator[str]:
        try:
            while True:
                yield f"{get_user_model().objects.count()}\n"
                time.sleep(0.2)
        finally:
            logging.getLogger("probe").warning("the stream is closed")

    return StreamingHttpResponse(users(), content_type="text/plain")


async def plain_stream(request: HttpRequest) -> StreamingHttpResponse:
    """Know who is there, say hello, and that is all."""
    user = await request.auser()
    assert user.is_authenticated

    async def hello() -> AsyncIterator[str]:
        yield "hello"
        await asyncio.sleep(600)

    return StreamingHttpResponse(hello(), content_type="text/event-stream")


urlpatterns = [
    path("probe/slow/", slow),
    path("probe/wait/<int:seconds>/", wait),
    path("async/block/<int:seconds>/", block),
    path("probe/facts/", request_facts),
    path("probe/query/", query),
    path("probe/stream/", sync_stream),
    path("probe/upload/", upload),
    path("probe/echo/<word>/", echo),
    path("async/echo/<word>/", echo),
    path("probe/keep/", keep),
    path("probe/publish/<room>/<text>/", publish),
    path("async/facts/", request_facts),
    path("async/wait/", async_wait),
    path("async/wait/<int:seconds>/", async_wait),
    path("async/query/", async_query),
    path("async/form/", async_form),
    path("async/failure/", async_failure),
    path("async/stream/", stream),
    path("async/plain/", plain_stream),
    path("", include("config.urls")),
]
