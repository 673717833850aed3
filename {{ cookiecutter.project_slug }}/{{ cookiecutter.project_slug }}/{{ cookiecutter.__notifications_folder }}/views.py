from django.contrib.auth.decorators import login_required
from django.core.handlers.asgi import ASGIRequest
from django.db import transaction
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET

from serving.live.sessions import find_user

from .forms import NotificationForm
from .hub import Hub
from .models import Notification
from .sending import notify
from .streams import stream

# Notifications on the page when it is opened.
HISTORY = 50
# Open streams of one user in one process: each tab and device has one.
MAX_STREAMS = 10


@login_required
def notifications(request: HttpRequest) -> HttpResponse:
    """Show the newest notifications, and let users send one to themselves, to try it."""
    form = NotificationForm(request.POST or None)
    if request.user.is_authenticated and form.is_valid():
        notify(request.user, form.cleaned_data["text"])
        return redirect("notifications:list")
    latest = Notification.objects.filter(user=request.user.pk).order_by("-pk")[:HISTORY]
    newest = latest[0].pk if latest else 0
    context = {"form": form, "notifications": latest, "newest": newest}
    return render(request, "notifications/list.html", context)


# Django has no transactions in async views. With ATOMIC_REQUESTS they need this decorator.
@transaction.non_atomic_requests
@require_GET
async def events(request: HttpRequest) -> HttpResponseBase:
    """Stream the notifications of the user who is logged in.

    It starts after the id in the header Last-Event-ID, which browsers send when they
    reconnect, or in `after`; without both it starts now. The page sends the id of its
    `user`, because another user may have logged in since.
    """
    if not isinstance(request, ASGIRequest):
        return refusal(501, "Streams need ASGI; under WSGI each would hold a thread.")
    # request.auser() would make a query for each browser that reconnects, one by one.
    key = request.session.session_key
    user = await find_user(key)
    if user is None or request.GET.get("user", str(user.pk)) != str(user.pk):
        return refusal(401, "You are logged out.")
    if Hub.here().count(user.pk) >= MAX_STREAMS:
        return refusal(429, "You have too many streams open; close some of your pages.")
    ids = [request.headers.get("Last-Event-ID", ""), request.GET.get("after", "")]
    after = next((int(value) for value in ids if is_id(value)), None)
    return StreamingHttpResponse(
        stream(key, user.pk, after),
        content_type="text/event-stream",
        headers={
            "Cache-Control": "no-store",
            # These tell nginx and GZipMiddleware not to buffer events.
            "X-Accel-Buffering": "no",
            "Content-Encoding": "identity",
        },
    )


def is_id(value: str) -> bool:
    """Return whether `value`, which may be anything, is an id that a row can have."""
    return value.isascii() and value.isdigit() and len(value) <= 18


def refusal(status: int, sentence: str) -> HttpResponse:
    """Return an error. After an error, a browser does not reconnect by itself."""
    return HttpResponse(sentence, status=status, content_type="text/plain")
