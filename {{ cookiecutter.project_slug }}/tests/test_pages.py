{% if cookiecutter.__both or cookiecutter.__channels %}
import re

{% endif %}
import pytest
{% if cookiecutter.__asgi %}
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client, RequestFactory
from django.urls import URLPattern, reverse
from django.views.defaults import server_error
{% else %}
from django.test import Client, RequestFactory
from django.urls import URLPattern, reverse
from django.views.defaults import server_error
{% endif %}

# A URLconf without any address, for a test below.
urlpatterns: list[URLPattern] = []


@pytest.mark.django_db
def test_home_page_names_the_interface_that_served_it(client: Client) -> None:
    page = client.get(reverse("home")).content.decode()

    # The test client speaks to Django as a WSGI server does.
    assert '<dd id="interface">WSGI</dd>' in page


def test_unknown_address_is_a_page_of_this_site(client: Client) -> None:
    response = client.get("/no/such/page")

    assert response.status_code == 404
    assert "Page not found" in response.content.decode()


def test_page_for_errors_stands_without_a_context() -> None:
    """Django renders it without context processors: they may be what failed."""
    page = server_error(RequestFactory().get("/")).content.decode()

    assert "<title>Something went wrong</title>" in page
    assert f'<a class="brand" href="{reverse("home")}">Home</a>' in page


@pytest.mark.urls(__name__)
def test_error_pages_need_no_address_of_this_site(client: Client) -> None:
    """Addresses get other names, when a package brings its own log-in for example."""
    response = client.get("/no/such/page")

    assert response.status_code == 404
    assert "Page not found" in response.content.decode()


@pytest.mark.django_db
def test_pages_allow_scripts_of_this_site_only(client: Client) -> None:
    policy = client.get(reverse("home"))["Content-Security-Policy"]

    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
{% if cookiecutter.__asgi %}


@pytest.mark.django_db(transaction=True)
def test_home_page_says_asgi_under_asgi() -> None:
    response = async_to_sync(AsyncClient().get)(reverse("home"))

    assert '<dd id="interface">ASGI</dd>' in response.content.decode()
{% endif %}
{% if cookiecutter.__both or cookiecutter.__channels %}


@pytest.mark.django_db
def test_each_page_has_a_nonce_of_its_own(client: Client) -> None:
    nonces = []
    for _ in range(2):
        response = client.get(reverse("home"))
        match = re.search(r"'nonce-([\w-]+)'", response["Content-Security-Policy"])
        assert match
        assert f'nonce="{match[1]}"' in response.content.decode()
        nonces.append(match[1])

    assert nonces[0] != nonces[1]
{% endif %}
{% if cookiecutter.__both %}


def test_async_status_is_under_a_path_that_the_proxy_sends_to_asgi(client: Client) -> None:
    from config.proxy import ASGI_PATHS

    response = client.get(reverse("async-status"))

    assert response.json()["interface"] == "WSGI"
    assert any(response.request["PATH_INFO"].startswith(path) for path in ASGI_PATHS)
{% endif %}
