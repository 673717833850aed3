from django import forms


class RoomForm(forms.Form):
    """The name of a room to enter."""

    room = forms.SlugField(
        label="Room",
        max_length=50,
        help_text="Letters, digits, hyphens and underscores.",
    )
