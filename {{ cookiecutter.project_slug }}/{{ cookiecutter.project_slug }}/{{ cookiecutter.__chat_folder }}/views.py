from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from . import limits, presence
from .forms import RoomForm
from .frames import is_room_name
from .models import Message, Room

MAX_ROOMS = 50


@login_required
def rooms(request: HttpRequest) -> HttpResponse:
    """List the rooms, newest messages first, and let people enter a new one."""
    form = RoomForm(request.GET if "room" in request.GET else None)
    if form.is_valid():
        return redirect("chat:room", form.cleaned_data["room"])
    newest_first = Room.objects.order_by("-last_id").values_list("name", flat=True)
    names = list(newest_first[:MAX_ROOMS])
    people = presence.counts(names)
    newest = [(name, people.get(name, 0)) for name in names]
    return render(request, "chat/rooms.html", {"form": form, "rooms": newest})


@login_required
def room(request: HttpRequest, room: str) -> HttpResponse:
    """Show a room and its newest messages; new ones come over its WebSocket."""
    if not is_room_name(room) or not limits.may_enter(request.user, room):
        raise Http404("This room does not exist, or you may not enter it.")
    messages = Message.objects.filter(room__name=room).select_related("author")
    history = list(reversed(messages.order_by("-pk")[: limits.HISTORY]))
    return render(
        request,
        "chat/room.html",
        {
            "room": room,
            "history": history,
            "last_id": history[-1].pk if history else 0,
            "max_length": limits.MESSAGE_LENGTH,
        },
    )
