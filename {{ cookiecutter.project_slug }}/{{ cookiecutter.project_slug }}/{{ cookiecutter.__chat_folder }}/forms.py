from django import forms

from .models import Room


class RoomForm(forms.Form):
    """The name of a room to enter."""

    room = forms.SlugField(
        label="Room",
        max_length=Room.NAME_MAX_LENGTH,
        help_text="Letters, digits, hyphens and underscores.",
    )
