# The template updates this file: see serving/README.md.
"""The user of a connection's session, and when that session ends.

https://docs.djangoproject.com/en/6.1/topics/auth/default/#session-invalidation-on-password-change
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from .batches import Batch
from .hints import Hint, publish_on_commit


def users_of(session_keys: Sequence[str | None]) -> list[Any]:
    """Return the user of each of these sessions, with two queries.

    It is None if the session has ended, if the password was changed in another session, or
    if the user is not active.

    Unlike get_user() of Django and of Channels, this changes nothing. If a session was
    signed with an old SECRET_KEY, Django gives it a new key and Channels deletes it. The
    browser of an open connection would not learn of that.
    """
    sessions = read(session_keys)
    ids = {data[SESSION_KEY] for data in sessions.values() if SESSION_KEY in data}
    active = get_user_model().objects.filter(pk__in=ids, is_active=True)
    users = {str(user.pk): user for user in active}
    found = []
    for key in session_keys:
        data = sessions.get(key, {})
        user = users.get(data.get(SESSION_KEY, ""))
        found.append(user if user and is_current(user, data) else None)
    return found


# For async code. Connections that ask at the same time share the two queries.
find_user: Batch[str | None, Any] = Batch(users_of)


def read(session_keys: Sequence[str | None]) -> dict[str | None, dict[str, Any]]:
    """Return the data of each of these sessions that exists."""
    store: Any = import_module(settings.SESSION_ENGINE).SessionStore
    # PostgreSQL refuses NUL, and the whole batch would fail.
    keys = {key for key in session_keys if key and "\0" not in key}
    if store.load is not DatabaseStore.load:
        return {key: dict(store(key).items()) for key in keys}
    rows = store.get_model_class().objects.filter(
        session_key__in=keys, expire_date__gt=timezone.now()
    )
    return {row.session_key: store().decode(row.session_data) for row in rows}


def is_current(user: Any, data: dict[str, Any]) -> bool:
    """Return whether the password has not changed since the session began."""
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    found = data.get(HASH_SESSION_KEY, "")
    return any(constant_time_compare(found, one) for one in hashes)


# Signals that a session may have ended


def check_sessions(sender: Any, instance: Any, **kwargs: Any) -> None:
    """Make all processes check the sessions of a user's connections, after the commit."""
    publish_on_commit(Hint("session", str(instance.pk)))


def logged_out(sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
    """Delete the session now. Django deletes it after this signal, and it could be checked
    before that."""
    if user:
        request.session.delete()
        check_sessions(sender, user)


def saved(sender: Any, instance: Any, created: bool, update_fields: Any, **kw: Any) -> None:
    """Check the sessions if the password or `is_active` may have changed."""
    # Logging in saves `last_login` alone.
    if not created and (
        update_fields is None or {"password", "is_active"} & {*update_fields}
    ):
        check_sessions(sender, instance)


def connect_signals() -> None:
    """Connect these receivers to Django's signals."""
    user_logged_out.connect(logged_out)
    post_save.connect(saved, sender=get_user_model())
    post_delete.connect(check_sessions, sender=get_user_model())
