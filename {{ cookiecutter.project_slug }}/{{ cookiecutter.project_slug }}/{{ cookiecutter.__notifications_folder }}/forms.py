from django import forms

from .models import Notification


class NotificationForm(forms.ModelForm):
    """A notification to yourself, to try it."""

    class Meta:
        model = Notification
        fields = ["text"]
