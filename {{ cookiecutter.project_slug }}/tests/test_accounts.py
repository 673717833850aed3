import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from {{ cookiecutter.project_slug }}.users import login
from {{ cookiecutter.project_slug }}.users.models import User


@pytest.fixture(autouse=True)
def nobody_tried_yet() -> None:
    cache.clear()


def test_logging_in_and_out(client: Client, ada: User) -> None:
    assert "Log in" in client.get(reverse("login")).content.decode()

    response = client.post(
        reverse("login"), {"username": "ada", "password": "adaada"}, follow=True
    )
    assert response.redirect_chain[0] == ("/", 302)
    assert "Log out ada" in response.content.decode()

    page = client.post(reverse("logout"), follow=True).content.decode()
    assert "Log out" not in page


def test_wrong_password_is_refused(client: Client, ada: User) -> None:
    response = client.post(reverse("login"), {"username": "ada", "password": "no"})

    assert "Please enter a correct username" in response.content.decode()
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("page", ["login", "admin:login"])
def test_passwords_are_not_guessed(client: Client, admin_user: User, page: str) -> None:
    def attempt(password: str, address: str = "2001:db8::1") -> str:
        form = {"username": "admin", "password": password}
        return client.post(reverse(page), form, REMOTE_ADDR=address).content.decode()

    # A successful log-in does not count as an attempt.
    for _ in range(2 * login.ATTEMPTS):
        attempt("password")
        client.logout()
    for _ in range(login.ATTEMPTS):
        assert "Too many attempts" not in attempt("a guess")

    # Now the right password is refused too, and every address of the same network.
    assert "Try again in 5 minutes" in attempt("password")
    assert "Try again in 5 minutes" in attempt("password", "2001:db8::2")
    assert "_auth_user_id" not in client.session
    attempt("password", "192.0.2.1")
    assert "_auth_user_id" in client.session


def test_log_in_works_while_the_cache_is_away(
    client: Client,
    ada: User,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("no cache here")

    monkeypatch.setattr(login.cache, "add", away)
    client.post(reverse("login"), {"username": "ada", "password": "adaada"})

    assert "_auth_user_id" in client.session
    assert "counter of log-ins is away" in caplog.text
