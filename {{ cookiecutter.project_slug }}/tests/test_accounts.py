from django.test import Client
from django.urls import reverse

from {{ cookiecutter.project_slug }}.users.models import User


def test_logging_in_and_out(client: Client, ada: User) -> None:
    assert "Log in" in client.get(reverse("login")).content.decode()

    response = client.post(
        reverse("login"), {"username": "ada", "password": "adaada"}, follow=True
    )
    assert response.redirect_chain[0] == ("/", 302)
    assert "Log out ada" in response.content.decode()

    page = client.post(reverse("logout"), follow=True).content.decode()
    assert "Log out" not in page
