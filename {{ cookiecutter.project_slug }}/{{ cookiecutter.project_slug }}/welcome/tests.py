import pytest
{% if cookiecutter.__asgi %}
from asgiref.sync import async_to_sync
{% endif %}
{% if cookiecutter.__both %}
from django.conf import settings
{% endif %}
{% if cookiecutter.__asgi %}
from django.test import AsyncClient, Client
{% else %}
from django.test import Client
{% endif %}
from django.urls import reverse


@pytest.mark.django_db
def test_page_names_the_interface_that_served_it(client: Client) -> None:
    page = client.get(reverse("home")).content.decode()

    # The test client uses WSGI.
    assert '<dd id="interface">WSGI</dd>' in page
{% if cookiecutter.__asgi %}


@pytest.mark.django_db(transaction=True)
def test_page_says_asgi_under_asgi() -> None:
    response = async_to_sync(AsyncClient().get)(reverse("home"))

    assert '<dd id="interface">ASGI</dd>' in response.content.decode()
{% endif %}
{% if cookiecutter.__both %}


def test_async_status_is_under_a_path_that_the_proxy_sends_to_asgi(client: Client) -> None:
    path = reverse("async-status")

    assert client.get(path).json()["interface"] == "WSGI"
    assert any(path.startswith(prefix) for prefix in settings.ASGI_PATHS)
{% endif %}
