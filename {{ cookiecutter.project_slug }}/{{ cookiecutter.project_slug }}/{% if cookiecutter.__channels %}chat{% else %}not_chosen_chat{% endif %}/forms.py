from django import forms

from .models import Message


class RoomForm(forms.Form):
    """The name of a room to enter."""

    room = forms.SlugField(
        label="Room",
        max_length=Message.ROOM_MAX_LENGTH,
        help_text="Letters, digits, hyphens and underscores.",
    )
