"""A socket ends when its session does: at once where somebody tells of it, otherwise with
the next look that the hub has at it.

https://docs.djangoproject.com/en/6.1/topics/auth/default/#session-invalidation-on-password-change
"""

import hashlib
from importlib import import_module
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models.signals import post_save
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from {{ cookiecutter.project_slug }}.users.models import User

from . import posting

# Every process listens to this group of the channel layer.
GROUP = "chat.sessions"


def user_of(session_key: str) -> int | None:
    """Return who is logged in with a session: nobody if it has ended, if the password was
    changed elsewhere, or if the user is not active any more.

    Unlike django.contrib.auth.get_user() it changes nothing: that gives a session that an
    old SECRET_KEY has signed a new key, of which the browser would not hear.
    """
    session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user = User.objects.filter(pk=session.get(SESSION_KEY), is_active=True).first()
    if user is None:
        return None
    expected = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    found = session.get(HASH_SESSION_KEY, "")
    return user.pk if any(constant_time_compare(found, one) for one in expected) else None


def digest(session_key: str | None) -> str:
    """Return what tells sessions apart where their keys should not be seen."""
    return hashlib.sha256((session_key or "").encode()).hexdigest()


def look_at(user_id: int, ended: str = "") -> None:
    """Let all processes look at the sessions of a user's sockets, after the commit; `ended`
    is the digest of one that has ended for certain."""
    event = {"type": "chat.session", "user": user_id, "ended": ended}
    transaction.on_commit(lambda: async_to_sync(posting.tell)(GROUP, event))


def logged_out(sender: Any, request: HttpRequest, user: User | None, **kwargs: Any) -> None:
    """End the sockets of one session. Django deletes it after it has told of it."""
    if user:
        look_at(user.pk, digest(request.session.session_key))


def saved(
    sender: Any, instance: User, created: bool, update_fields: Any, **kwargs: Any
) -> None:
    """The password may be another, or the user not active any more."""
    # Logging in saves `last_login` alone.
    if not created and (
        update_fields is None or {"password", "is_active"} & {*update_fields}
    ):
        look_at(instance.pk)


def connect() -> None:
    """Listen to Django's signals."""
    user_logged_out.connect(logged_out)
    post_save.connect(saved, sender=User)
