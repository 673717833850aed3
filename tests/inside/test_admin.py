"""Who gets into the admin, and what others have written there."""

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from django.urls import reverse
{% if cookiecutter.__channels %}

from {{ cookiecutter.project_slug }}.chat.models import Message, Room
{% endif %}
{% if cookiecutter.__sse %}

from {{ cookiecutter.project_slug }}.notifications.models import Notification
{% endif %}

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture
def evil(db: None) -> Any:
    """Somebody whose name is markup, as is all that they wrote; and such a group."""
    evil = get_user_model().objects.create_user(EVIL, "evil@example.com", first_name=EVIL)
    Group.objects.create(name=EVIL)
{% if cookiecutter.__channels %}
    room = Room.objects.create(name=EVIL[:50])
    Message.objects.create(room=room, author=evil, text=EVIL, key="k")
{% endif %}
{% if cookiecutter.__sse %}
    Notification.objects.create(user=evil, text=EVIL)
{% endif %}
    LogEntry.objects.create(
        user=evil,
        content_type=ContentType.objects.get_for_model(get_user_model()),
        object_id=str(evil.pk),
        object_repr=EVIL,
        action_flag=ADDITION,
        change_message=EVIL,
    )
    return evil


def pages() -> list[str]:
    """Return the addresses of the admin's pages: of each model, of one object of each."""
    found = [reverse("admin:index"), reverse("admin:app_list", args=["users"])]
    for model in admin.site._registry:
        one = model._default_manager.first()
        assert one, model
        prefix = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        found += [reverse(f"{prefix}_{kind}") for kind in ("changelist", "add")]
        for kind in ("change", "delete", "history"):
            found.append(reverse(f"{prefix}_{kind}", args=[one.pk]))
    evil = get_user_model().objects.get(username=EVIL)
    found.append(reverse("admin:auth_user_password_change", args=[evil.pk]))
    users = ContentType.objects.get_for_model(get_user_model())
    found.append(reverse("admin:view_on_site", args=[users.pk, evil.pk]))
    found.append(reverse("admin:autocomplete"))
    return found


def counts() -> list[int]:
    return [model._default_manager.count() for model in admin.site._registry]


# What a form of the admin would need, so that no error of it is the reason.
SENT = {"post": "yes", "username": "new", "name": "new", "usable_password": "false"}


@pytest.mark.parametrize("staff", [False, True])
def test_admin_is_for_those_who_may(staff: bool, evil: Any, client: Client) -> None:
    """Neither its pages nor its forms, for somebody who is no staff, or may do nothing."""
    somebody = get_user_model().objects.create_user("somebody", is_staff=staff)
    client.force_login(somebody)
    before = counts()
    index, login = reverse("admin:index"), reverse("admin:login")

    for path in pages():
        for answer in (client.get(path), client.post(path, SENT)):
            if staff and path == index:
                # It is empty, but for the change of one's own password.
                assert answer.status_code == 200
                text = answer.content.decode()
                assert not re.findall(rf'href="{index}(?!password_change|logout)\w', text)
            elif staff:
                # 405 is the autocompletion, which takes no form.
                assert answer.status_code in (403, 404, 405), path
            else:
                assert answer.status_code == 302, path
                assert answer["Location"].startswith(login), path
    assert counts() == before


def test_what_people_wrote_is_text_in_the_admin(evil: Any, client: Client) -> None:
    client.force_login(get_user_model().objects.create_superuser("root"))
    shown = [client.get(path).content.decode() for path in pages()]
    # And in what the admin says after a change.
    shown += [
        client.post(path, {"post": "yes"}, follow=True).content.decode()
        for path in (reverse("admin:users_user_delete", args=[evil.pk]), *groups())
    ]
    shown.append(client.get(reverse("admin:index")).content.decode())

    assert sum("&lt;script&gt;alert(1)" in page for page in shown) > 8
    for page in shown:
        assert "<script>alert" not in page
        assert "<img src=x" not in page


def groups() -> list[str]:
    return [
        reverse("admin:auth_group_delete", args=[group.pk]) for group in Group.objects.all()
    ]
