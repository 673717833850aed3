from django.conf import settings
from django.db import models


class Message(models.Model):
    """What somebody said in a room. Its id is its place in the room's order."""

    MAX_LENGTH = 2000
    ROOM_MAX_LENGTH = 50

    room = models.SlugField(max_length=ROOM_MAX_LENGTH, db_index=False)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    text = models.TextField(max_length=MAX_LENGTH)
    sent_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["room", "id"], name="chat_room_order")]

    def __str__(self) -> str:
        return f"{self.author} in {self.room}: {self.text[:50]}"

    def as_event(self) -> dict[str, object]:
        """Return the frame that tells a browser of this message."""
        return {
            "type": "message",
            "id": self.pk,
            "author": self.author.get_username(),
            "text": self.text,
            "sent_at": self.sent_at.isoformat(),
        }
