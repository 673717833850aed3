"""How the rest of the site sends notifications: notify(), or anotify() in async code."""

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from serving.live.hints import Hint, publish_on_commit

from .models import Notification

# How many of a person's are kept, the newest; one that stays away for longer misses some.
KEPT = 100


def notify(user: AbstractBaseUser, text: str, url: str = "") -> Notification:
    """Tell `user` something, now or when the transaction that this is part of commits.

    `url` is what it links to: a path of this site, or an http(s) address. Raises
    ValidationError for another one, and for a text that is empty or too long. In a
    transaction, notify several people in the order of their ids, or two such transactions
    may wait for each other; the database then ends one of them with an error.
    """
    notification = Notification(user_id=user.pk, text=text, url=url)
    notification.clean_fields(exclude={"user"})
    with transaction.atomic():
        # A stream reads what is beyond the last id that it sent, so ids have to become
        # visible in their order. PostgreSQL gives them out as rows are inserted, and of two
        # transactions the second may commit first. So the second waits here, before it gets
        # one. (SQLite has one transaction at a time that writes.)
        get_user_model().objects.select_for_update(no_key=True).only("pk").get(pk=user.pk)
        notification.save(force_insert=True)
        own = Notification.objects.filter(user=user.pk)
        own.filter(pk__in=own.order_by("-pk").values("pk")[KEPT:]).delete()
        publish_on_commit(Hint("news", str(user.pk), notification.pk))
    return notification


async def anotify(user: AbstractBaseUser, text: str, url: str = "") -> Notification:
    """Do what notify() does, for async code."""
    return await sync_to_async(notify)(user, text, url)
