"""The site itself, with all packages in it."""

import pytest

from tests.compat.shop import Shop
from tests.site import next_frame, say

pytestmark = pytest.mark.compat

POLICY = "Content-Security-Policy"


def test_site_has_its_home_page_and_error_pages(shop: Shop) -> None:
    assert "is running" in shop.site.get("/").text
    unknown = shop.site.get("/no/such/page")
    assert unknown.status_code == 404
    if not shop.debug:
        assert "There is no page at this address" in unknown.text


def test_streams_and_sockets_of_the_site_open(shop: Shop) -> None:
    """Their requests pass through the middleware of all packages."""
    with shop.browser("ada") as client:
        if shop.site.project.is_(realtime="sse"):
            with client.stream("GET", "/events/") as stream:
                assert next(stream.iter_lines()).startswith("retry: ")
        if shop.site.project.is_(realtime="channels"):
            shop.site.sessions["ada"] = f"sessionid={client.cookies['sessionid']}"
            with shop.site.socket() as socket:
                say(socket, "hello")
                assert next_frame(socket, "message")["text"] == "hello"


def test_wider_policy_is_for_its_addresses_only(shop: Shop) -> None:
    """The recipe of docs/compat.md, for pages with scripts of their own."""
    for path in ("/cms/login/", "/silk/", "/graphql/"):
        policy = shop.site.get(path, headers={"Accept": "text/html"}).headers[POLICY]
        assert "script-src 'self' 'unsafe-inline'" in policy
    for prefix in shop.prefixes:
        for path in ("page", "apage", "agraphql"):
            page = shop.site.get(f"{prefix}/{path}/", headers={"Accept": "text/html"})
            assert "unsafe-inline" not in page.headers[POLICY]


def test_nothing_went_wrong_unseen(shop: Shop) -> None:
    # What axes tells; and what is not yet: each error has a line of its own beside its traceback.
    shop.site.assert_clean_log(
        but_for="AXES: |__func__|Server Error: (/async)?/acached/|^Traceback"
    )
