import json

from django.conf import settings
from django.core.validators import ProhibitNullCharactersValidator, RegexValidator
from django.db import models

# Not javascript:, which would run in the page of whoever follows it.
validate_url = RegexValidator(
    r"\A(/|https?://)[^\x00-\x20\x7f]*\Z",
    "Name a path of this site, or an http(s) address.",
)


class Notification(models.Model):
    """What somebody was told. Its id is its place in the order of that person's.

    sending.notify() makes them; what is saved in another way may be missed by a stream.
    """

    MAX_LENGTH = 500

    # The index below finds a person's as well.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, db_index=False
    )
    text = models.CharField(
        max_length=MAX_LENGTH, validators=[ProhibitNullCharactersValidator()]
    )
    url = models.CharField(max_length=MAX_LENGTH, blank=True, validators=[validate_url])
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["user", "id"], name="notification_user_order")]

    def __str__(self) -> str:
        return f"{self.user}: {self.text[:50]}"

    def as_event(self) -> str:
        """Return the server-sent event that tells of it. JSON has no line breaks."""
        data = {
            "id": self.pk,
            "text": self.text,
            "url": self.url,
            "created_at": self.created_at.isoformat(),
        }
        return f"id: {self.pk}\nevent: notification\ndata: {json.dumps(data)}\n\n"
