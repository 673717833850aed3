import json

from django.conf import settings
from django.core.validators import ProhibitNullCharactersValidator, RegexValidator
from django.db import models

# A javascript: URL would run as a script of this site.
validate_url = RegexValidator(
    r"\A(/|https?://)[^\x00-\x20\x7f]*\Z",
    "Enter a path of this site, or an http(s) address.",
)


class Notification(models.Model):
    """A notification to a user. The notifications of a user are ordered by id.

    Create them with sending.notify(): a stream may miss those that are saved without it.
    """

    MAX_LENGTH = 500

    # The index below serves queries by user as well.
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
        """Return this as a server-sent event. JSON has no line breaks."""
        data = {
            "id": self.pk,
            "text": self.text,
            "url": self.url,
            "created_at": self.created_at.isoformat(),
        }
        return f"id: {self.pk}\nevent: notification\ndata: {json.dumps(data)}\n\n"
