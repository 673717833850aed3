"""Passwords are changed and reset by Django's own pages, inside this site."""

from types import ModuleType
from typing import Any

from django.core import mail
from django.test import Client
from django.urls import reverse

from config import urls


def test_changing_the_password(client: Client, ada: Any) -> None:
    client.force_login(ada)
    new = "quite-another-1"

    response = client.post(
        reverse("password_change"),
        {"old_password": "adaada", "new_password1": new, "new_password2": new},
        follow=True,
    )

    assert response.status_code == 200
    assert client.login(username="ada", password=new)


def test_resetting_a_forgotten_password(client: Client, ada: Any) -> None:
    client.post(reverse("password_reset"), {"email": "ada@example.com"})
    lines = mail.outbox[0].body.splitlines()
    link = next(line for line in lines if line.startswith("http"))
    new = "quite-another-1"

    form = client.get(link, follow=True)
    address = form.redirect_chain[-1][0]
    response = client.post(
        address, {"new_password1": new, "new_password2": new}, follow=True
    )

    assert response.status_code == 200
    assert client.login(username="ada", password=new)
    # Once only.
    assert not client.get(link, follow=True).context["validlink"]


def test_address_without_an_account_gets_no_mail(client: Client, db: None) -> None:
    response = client.post(reverse("password_reset"), {"email": "nobody@example.com"})

    assert response["Location"] == reverse("password_reset_done")
    assert mail.outbox == []


def test_pages_open_with_another_way_to_log_in(
    client: Client, ada: Any, settings: Any
) -> None:
    """No page fails because an owner has taken Django's own out of the URLs."""
    patterns: list[Any] = urls.urlpatterns
    kept = [one for one in patterns if str(one.pattern) != "accounts/"]
    assert len(kept) == len(patterns) - 1
    without = ModuleType("urls")
    vars(without)["urlpatterns"] = kept
    settings.ROOT_URLCONF, settings.LOGIN_URL = without, "/enter/"

    for who in (None, ada):
        if who:
            client.force_login(who)
        assert client.get("/").status_code == 200
        assert client.get("/no/such/page/").status_code == 404
{% if cookiecutter.__channels %}
    page = client.get("/chat/lobby/")
    assert 'data-login="/enter/?next=/chat/lobby/"' in page.content.decode()
{% endif %}
{% if cookiecutter.__sse %}
    page = client.get("/notifications/")
    assert 'data-login="/enter/?next=/notifications/"' in page.content.decode()
{% endif %}
