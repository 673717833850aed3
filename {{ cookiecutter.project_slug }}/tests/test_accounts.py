from django.core import mail
from django.test import Client

from {{ cookiecutter.project_slug }}.users.models import User


def test_logging_in_and_out(client: Client, ada: User) -> None:
    assert "Log in" in client.get("/accounts/login/").content.decode()

    response = client.post(
        "/accounts/login/", {"username": "ada", "password": "adaada"}, follow=True
    )
    assert response.redirect_chain == [("/", 302)]
    assert "Log out ada" in response.content.decode()

    page = client.post("/accounts/logout/", follow=True).content.decode()
    assert "Log out" not in page


def test_wrong_password_is_refused(client: Client, ada: User) -> None:
    response = client.post("/accounts/login/", {"username": "ada", "password": "no"})

    assert "Please enter a correct username" in response.content.decode()
    assert "_auth_user_id" not in client.session


def test_changing_the_password(client: Client, ada: User) -> None:
    client.force_login(ada)
    new = "quite-another-1"

    response = client.post(
        "/accounts/password_change/",
        {"old_password": "adaada", "new_password1": new, "new_password2": new},
        follow=True,
    )

    assert "Password changed" in response.content.decode()
    assert client.login(username="ada", password=new)


def test_resetting_a_forgotten_password(client: Client, ada: User) -> None:
    client.post("/accounts/password_reset/", {"email": "ada@example.com"})
    link = next(
        line for line in mail.outbox[0].body.splitlines() if "/accounts/reset/" in line
    )
    new = "quite-another-1"

    form = client.get(link, follow=True)
    address = form.redirect_chain[-1][0]
    response = client.post(
        address, {"new_password1": new, "new_password2": new}, follow=True
    )

    assert "Password set" in response.content.decode()
    assert client.login(username="ada", password=new)
    assert "was used already" in client.get(link, follow=True).content.decode()


def test_address_without_an_account_gets_no_mail(client: Client, db: None) -> None:
    response = client.post(
        "/accounts/password_reset/", {"email": "nobody@example.com"}, follow=True
    )

    assert "Check your mail" in response.content.decode()
    assert mail.outbox == []
