from django import forms

from .models import Notification


class NotificationForm(forms.ModelForm):
    """A notification to oneself."""

    class Meta:
        model = Notification
        fields = ["text"]
