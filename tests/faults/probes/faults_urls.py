"""Views that write, hold a lock, fill memory, and never return; the root URLconf of the layer."""

import os
import time

# Django takes the error pages of the root URLconf alone.
from config.urls import handler500 as handler500
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

User = get_user_model()
LARGE = b"x" * 5_000_000
leaked: list[bytes] = []


@csrf_exempt
def write(request: HttpRequest, name: str, key: str) -> JsonResponse:
    """Write a row, once: a notification for `name` where there are any, else a user."""
    if apps.is_installed("serving.live") and request.GET.get("notify"):
        from importlib import import_module

        sending = import_module(f"{apps.get_app_config('notifications').name}.sending")
        sending.notify(User.objects.get(username=name), key)
    else:
        User.objects.create(username=key, password="!")
    return JsonResponse({"pid": os.getpid()}, status=201)


def clock(request: HttpRequest) -> JsonResponse:
    """Tell what time it is here, and who asks."""
    return JsonResponse(
        {
            "times": [time.time(), timezone.now().timestamp()],
            "user": request.user.get_username(),
        }
    )


def locked(request: HttpRequest) -> JsonResponse:
    """Write to a row that somebody else has locked."""
    with transaction.atomic():
        User.objects.filter(username="ada").update(first_name="Ada")
    return JsonResponse({})


def never(request: HttpRequest) -> JsonResponse:
    while True:
        time.sleep(1)


def leak(request: HttpRequest) -> JsonResponse:
    """Take 8 MiB and keep them."""
    leaked.append(os.urandom(1 << 20) * 8)
    return JsonResponse({"pid": os.getpid(), "mebibytes": 8 * len(leaked)})


def large(request: HttpRequest) -> HttpResponse:
    """Answer with 5 MB at once."""
    return HttpResponse(LARGE)


def backend(request: HttpRequest) -> JsonResponse:
    """Tell which of PostgreSQL's processes serves this thread."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"pid": os.getpid()})


urlpatterns = [
    path("fault/write/<name>/<key>/", write),
    # The half of `both` that serves ASGI.
    path("async/write/<name>/<key>/", write),
    path("fault/clock/", clock),
    path("async/clock/", clock),
    path("fault/locked/", locked),
    path("fault/never/", never),
    path("fault/leak/", leak),
    path("fault/large/", large),
    path("fault/query/", backend),
    path("", include("probe_urls")),
]
