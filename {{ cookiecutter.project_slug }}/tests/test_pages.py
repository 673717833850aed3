import pytest
from django.test import Client, RequestFactory
from django.urls import URLPattern
from django.views.defaults import server_error

# An empty URLconf, for a test below.
urlpatterns: list[URLPattern] = []


def test_unknown_url_shows_an_error_page_of_this_site(client: Client) -> None:
    response = client.get("/no/such/page")

    assert response.status_code == 404
    assert "Page not found" in response.content.decode()


def test_error_page_needs_no_context() -> None:
    """Django renders it without context processors, because they may have failed."""
    page = server_error(RequestFactory().get("/")).content.decode()

    assert "<h1>Something went wrong</h1>" in page


@pytest.mark.urls(__name__)
def test_error_pages_need_no_url_of_this_site(client: Client) -> None:
    """URL names can change, for example if a package has its own log-in."""
    response = client.get("/no/such/page")

    assert response.status_code == 404
    assert "Page not found" in response.content.decode()
