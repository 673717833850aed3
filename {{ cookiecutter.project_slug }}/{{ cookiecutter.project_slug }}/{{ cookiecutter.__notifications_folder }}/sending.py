"""Send notifications: notify(), or anotify() in async code."""

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from serving.live.hints import Hint, publish_on_commit

from .models import Notification

# The newest notifications of each user that are kept. Older ones are deleted.
MAX_KEPT = 100


def notify(user: AbstractBaseUser, text: str, url: str = "") -> Notification:
    """Send a notification to `user`, now or when the current transaction commits.

    `url` is what it links to: a path of this site, or an http(s) address. Raises
    ValidationError for any other URL, and for a text that is empty or too long. If you
    notify several users in one transaction, do that in the order of their ids, to avoid
    deadlocks.
    """
    notification = Notification(user_id=user.pk, text=text, url=url)
    notification.clean_fields(exclude={"user"})
    with transaction.atomic():
        # A stream reads the rows after the last id that it sent, so ids must be committed
        # in ascending order. In PostgreSQL, of two transactions that insert, the second can
        # commit first. This lock makes the second wait before it gets an id. (SQLite allows
        # only one write transaction at a time.)
        get_user_model().objects.select_for_update(no_key=True).only("pk").get(pk=user.pk)
        notification.save(force_insert=True)
        own = Notification.objects.filter(user=user.pk)
        own.filter(pk__in=own.order_by("-pk").values("pk")[MAX_KEPT:]).delete()
        publish_on_commit(Hint("news", str(user.pk), notification.pk))
    return notification


async def anotify(user: AbstractBaseUser, text: str, url: str = "") -> Notification:
    """Do the same as notify(), for async code."""
    return await sync_to_async(notify)(user, text, url)
