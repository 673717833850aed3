# The template updates this file: see serving/README.md.
"""Health probes, for a proxy, a container engine or Kubernetes.

/health/live    The process answers. It does no query: otherwise a database outage would
                restart all processes.
/health/ready   503 if requests should go to other processes: this one is stuck
                (serving/threads.py), is stopping, or has not reached its database since
                it started, perhaps because of wrong settings.

An outage of a shared service is not a 503. All processes would leave the load balancer at
the same time, and nothing could answer. The response is then 200 with the status "degraded"
and the name of the service:

database        A page that needs it is a 503 until it is back (serving/unavailable.py).
cache           Pages work; wrong passwords are not counted. A page whose own code uses the
                cache is a 503.
{% if cookiecutter.__channels %}
channel_layer   The chat works: messages of other processes come a little later, from the
                database. Your own consumers that use the layer fail.
{% endif %}
"""

{% if cookiecutter.__asgi %}
import asyncio
{% endif %}
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
{% if cookiecutter.__asgi %}
from inspect import iscoroutinefunction
{% endif %}

{% if cookiecutter.__channels %}
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
{% endif %}
from django.core.cache import cache
from django.db import connection
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse, JsonResponse
{% if cookiecutter.__asgi %}
from django.utils.decorators import sync_and_async_middleware
{% endif %}

from serving import outages
from serving.threads import watchdog

# Seconds for all checks together; orchestrators give up after a few.
TIMEOUT = 3


def check_database() -> None:
    """Raise an exception if the database does not answer."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()
    REACHED.set()


def check_cache() -> None:
    """Raise an exception if the cache does not store a value."""
    cache.set("health", "ok", timeout=10)
    if cache.get("health") != "ok":
        raise LookupError("The cache lost a value at once.")


{% if cookiecutter.__channels %}
def check_channel_layer() -> None:
    """Raise an exception if the channel layer accepts no message."""
    layer = get_channel_layer()
    async_to_sync(layer.group_send)("health", {"type": "health.check"})


{% endif %}
CHECKS: dict[str, Callable[[], None]] = {
    "database": check_database,
    "cache": check_cache,
{% if cookiecutter.__channels %}
    "channel_layer": check_channel_layer,
{% endif %}
}
# Whether this process has ever reached its database, in a check or in a page.
REACHED = threading.Event()
# One thread per check, so that a check that hangs blocks only itself.
THREADS = {name: ThreadPoolExecutor(1, f"health-{name}") for name in CHECKS}
# The outage for a check that times out or fails for another reason.
OUTAGES = {name: outages.Outage(name) for name in CHECKS} | {"database": outages.database}
# If checks already run, the last results are returned at once. So probes from outside
# cannot occupy all threads.
RUNNING = threading.Lock()
LATEST = dict.fromkeys(CHECKS, "not known yet")


def reached(**kwargs: object) -> None:
    """Note that a connection to the database was opened."""
    REACHED.set()


connection_created.connect(reached)


def live() -> HttpResponse:
    """Answer 200."""
    return JsonResponse({"status": "ok"})


def ready() -> HttpResponse:
    """Answer 200, or 503 if requests should go elsewhere, with the result of each check."""
    if reason := watchdog.problem() or watchdog.stopping:
        return answer("failed", {"process": reason}, 503)
    if RUNNING.acquire(blocking=False):
        try:
            futures = {name: THREADS[name].submit(check) for name, check in CHECKS.items()}
            wait(futures.values(), TIMEOUT)
            LATEST.update({name: outcome(name, future) for name, future in futures.items()})
        finally:
            RUNNING.release()
    outcomes = {"process": "ok", **LATEST}
    if not REACHED.is_set():
        return answer("failed", outcomes, 503)
    if set(outcomes.values()) != {"ok"}:
        return answer("degraded", outcomes)
    outages.redis.works()
    return answer("ok", outcomes)


def answer(status: str, outcomes: dict[str, str], code: int = 200) -> HttpResponse:
    """Return a response for load balancers and monitoring."""
    return JsonResponse({"status": status, "checks": outcomes}, status=code)


def outcome(name: str, future: Future[None]) -> str:
    """Return the result of a check. The reason is only logged."""
    if not future.done():
        future.cancel()
        OUTAGES[name].failed(TimeoutError(f"no answer within {TIMEOUT} seconds"))
        return "no answer"
    if error := future.exception():
        (outages.outage_of(error) or OUTAGES[name]).failed(error)
        return "failed"
    OUTAGES[name].works()
    return "ok"


PROBES = {"/health/live": live, "/health/ready": ready}


{% if cookiecutter.__asgi %}
@sync_and_async_middleware
def health_middleware(get_response):  # type: ignore[no-untyped-def]
    """Answer the probes before the Host header is checked, or https is required."""
    if iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponse:
            match request.path_info:
                case "/health/live":
                    return live()
                case "/health/ready":
                    # If no thread is free, a check in a thread could not run.
                    return ready() if watchdog.problem() else await asyncio.to_thread(ready)
            return await get_response(request)

        return async_middleware

    def middleware(request: HttpRequest) -> HttpResponse:
        if probe := PROBES.get(request.path_info):
            return probe()
        return get_response(request)

    return middleware
{% else %}
def health_middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Answer the probes before the Host header is checked, or https is required."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if probe := PROBES.get(request.path_info):
            return probe()
        return get_response(request)

    return middleware
{% endif %}
