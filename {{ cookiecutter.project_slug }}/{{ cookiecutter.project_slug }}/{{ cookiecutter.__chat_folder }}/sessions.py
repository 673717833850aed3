"""A socket ends when its session does: at once where somebody tells of it, otherwise with
the next look that the hub has at it.

https://docs.djangoproject.com/en/6.1/topics/auth/default/#session-invalidation-on-password-change
"""

from typing import Any

from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest

from {{ cookiecutter.project_slug }}.users.models import User

from . import posting

# Every process listens to this group of the channel layer.
GROUP = "chat.sessions"


def look_at(user_id: int) -> None:
    """Let all processes look at the sessions of a user's sockets, after the commit."""
    posting.tell_on_commit(GROUP, {"type": "chat.session", "user": user_id})


def logged_out(sender: Any, request: HttpRequest, user: User | None, **kwargs: Any) -> None:
    """End the sockets of one session. Django deletes it after it has told of it; whoever
    looks at it then might come too early."""
    if user:
        request.session.delete()
        look_at(user.pk)


def saved(
    sender: Any, instance: User, created: bool, update_fields: Any, **kwargs: Any
) -> None:
    """The password may be another, or the user not active any more."""
    # Logging in saves `last_login` alone.
    if not created and (
        update_fields is None or {"password", "is_active"} & {*update_fields}
    ):
        look_at(instance.pk)


def deleted(sender: Any, instance: User, **kwargs: Any) -> None:
    """The user is gone."""
    look_at(instance.pk)


def connect() -> None:
    """Listen to Django's signals."""
    user_logged_out.connect(logged_out)
    post_save.connect(saved, sender=User)
    post_delete.connect(deleted, sender=User)
