from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from .forms import RoomForm
from .models import Message

# Messages that a page shows when it is opened, and rooms in the list.
HISTORY = 50


@login_required
def rooms(request: HttpRequest) -> HttpResponse:
    """List the rooms that somebody has spoken in, and let people enter a new one."""
    form = RoomForm(request.GET if "room" in request.GET else None)
    if form.is_valid():
        return redirect("chat:room", form.cleaned_data["room"])
    names = Message.objects.order_by("room").values_list("room", flat=True).distinct()
    return render(request, "chat/rooms.html", {"form": form, "rooms": names[:HISTORY]})


@login_required
def room(request: HttpRequest, room: str) -> HttpResponse:
    """Show a room and what was said last in it; the rest comes over its WebSocket."""
    if len(room) > Message.ROOM_MAX_LENGTH:
        raise Http404("No room has so long a name.")
    latest = Message.objects.filter(room=room).select_related("author").order_by("-pk")
    return render(
        request,
        "chat/room.html",
        {
            "room": room,
            "messages_": reversed(latest[:HISTORY]),
            "max_length": Message.MAX_LENGTH,
        },
    )
