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

# Notifications that the page shows when it is opened.
HISTORY = 50
# Streams that a user can have open in one process: a page, a few more tabs and devices.
MAX_STREAMS = 10


@login_required
def notifications(request: HttpRequest) -> HttpResponse:
    """Show what a user was told last, and let them tell themselves something to try it."""
    form = NotificationForm(request.POST or None)
    if request.user.is_authenticated and form.is_valid():
        notify(request.user, form.cleaned_data["text"])
        return redirect("notifications:list")
    latest = Notification.objects.filter(user=request.user.pk).order_by("-pk")[:HISTORY]
    newest = latest[0].pk if latest else 0
    context = {"form": form, "notifications": latest, "newest": newest}
    return render(request, "notifications/list.html", context)


# Django has no transactions for async views: with ATOMIC_REQUESTS each has to say so.
@transaction.non_atomic_requests
@require_GET
async def events(request: HttpRequest) -> HttpResponseBase:
    """Stream the notifications of whoever is logged in.

    It begins after the id in the header Last-Event-ID, which browsers send when they come
    back, else after that in `after`, else now. A page names its `user`: another one may
    have logged in meanwhile.
    """
    if not isinstance(request, ASGIRequest):
        return refusal(501, "Streams are served over ASGI; here one would hold a thread.")
    # Not request.auser(), for which browsers that come together would wait in line.
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
            # nginx passes events on as they come, GZipMiddleware does not collect them.
            "X-Accel-Buffering": "no",
            "Content-Encoding": "identity",
        },
    )


def is_id(value: str) -> bool:
    """Return whether `value`, which may come from anybody, is an id that a row can have."""
    return value.isascii() and value.isdigit() and len(value) <= 18


def refusal(status: int, sentence: str) -> HttpResponse:
    """Return an answer that a browser takes as final: it does not try again by itself."""
    return HttpResponse(sentence, status=status, content_type="text/plain")
