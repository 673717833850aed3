from django.conf import settings
from django.db import models
from django.db.models.functions import Now


class Room(models.Model):
    """A room that has messages."""

    NAME_MAX_LENGTH = 50

    name = models.SlugField(max_length=NAME_MAX_LENGTH, unique=True)
    # The id of the newest message, or 0. A transaction that adds a message locks this row
    # (posting.py), so that the ids of a room are committed in ascending order.
    last_id = models.BigIntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["-last_id"], name="chat_newest_rooms")]

    def __str__(self) -> str:
        return self.name


class Message(models.Model):
    """A message in a room. The messages of a room are ordered by id."""

    MAX_LENGTH = 2000

    room = models.ForeignKey(Room, on_delete=models.CASCADE, db_index=False)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, db_index=False
    )
    # Chosen by the sender. A message that is sent again has the same key: stored once.
    key = models.CharField(max_length=64)
    text = models.TextField(max_length=MAX_LENGTH)
    sent_at = models.DateTimeField(db_default=Now(), editable=False)  # the database's clock

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["author", "key"], name="chat_sent_once"),
        ]
        indexes = [
            models.Index(fields=["room", "id"], name="chat_room_order"),
            models.Index(fields=["author", "id"], name="chat_author_order"),
        ]

    def __str__(self) -> str:
        return f"{self.author} in {self.room}: {self.text[:50]}"


class Presence(models.Model):
    """One socket in one room. Its process renews `seen_at`; see presence.py."""

    # The name and no foreign key: entering a room does not create a Room.
    room = models.SlugField(max_length=Room.NAME_MAX_LENGTH, db_index=False)
    # All rows are renewed in one statement. It must not fail if a user was just deleted.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, db_constraint=False
    )
    socket = models.CharField(max_length=32)
    seen_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "presence"
        constraints = [
            models.UniqueConstraint(fields=["room", "socket"], name="chat_socket_in_room"),
        ]
        indexes = [models.Index(fields=["seen_at"], name="chat_seen_at")]

    def __str__(self) -> str:
        return f"{self.user} in {self.room}"
