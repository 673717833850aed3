"""Packages for who somebody is, what they may do, and what they did."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.compat import add_sign_up
from tests.compat.shop import PROJECTS, Shop, row, word
from tests.conftest import Bake
from tests.project import uv

pytestmark = pytest.mark.compat


@pytest.mark.parametrize("interface", ["wsgi", "both"])
def test_project_with_sign_up_passes_its_lint_and_its_tests(interface: str, bake: Bake) -> None:
    """After no more than what docs/accounts.md says."""
    project = bake(**PROJECTS[interface])
    project.must(uv(), "add", "--quiet", "django-allauth")
    add_sign_up(project)
    project.install()
    project.must("just", "manage", "migrate")

    project.must("just", "lint")
    output = project.must("just", "test", "-q", "-p", "no:cacheprovider")

    assert re.search(r"\b\d+ passed", output)


@row("django-allauth")
def test_allauth(shop: Shop) -> None:
    """Sign-up by email address, the mail with the link to confirm it, log-in."""
    name, password = word(), word() + word()  # Django refuses one that is like the name
    email = f"{name}@example.com"
    with shop.browser() as client:

        def log_in() -> httpx.Response:
            return shop.site.submit(client, "/accounts/login/", login=email, password=password)

        page = shop.site.submit(
            client, "/accounts/signup/", email=email, password1=password, password2=password
        )  # fmt: skip
        assert page.url.path == "/accounts/confirm-email/"
        assert log_in().url.path == "/accounts/confirm-email/"
        mail = shop.site.log.partition(f"To: {email}")[2].replace("=\n", "")
        link = re.search(rf"{shop.site.origin}(/accounts/confirm-email/\S+)", mail)
        assert link, mail
        shop.site.submit(client, link[1])
        assert log_in().url.path == "/"
        assert client.get(f"/change/{word()}/").json() == {"by": name}
        # They have the site's header, and the pages of the site open with another way to log in.
        for path in ("/", "/accounts/email/"):
            assert f"Log out {name}" in client.get(path).raise_for_status().text
        if shop.site.project.is_(realtime="channels"):
            for path in ("/chat/", "/chat/lobby/"):
                assert client.get(path).raise_for_status().url.path == path
    with shop.browser() as client:
        # Somebody who was there before allauth was.
        fields = {"login": "carol@shop.example", "password": "password-of-carol"}
        page = shop.site.submit(client, "/accounts/login/", **fields)
        assert page.url.path == "/accounts/confirm-email/"


@row("django-guardian")
def test_guardian(shop: Shop) -> None:
    """A view for who has a permission on one object; others get 403."""
    for prefix in shop.prefixes:
        with shop.browser("carol") as client:
            assert client.get(f"{prefix}/guarded/guarded/").text == "carol may see guarded"
            assert client.get(f"{prefix}/guarded/cheap/").status_code == 403
        with shop.browser("dave") as client:
            assert client.get(f"{prefix}/guarded/guarded/").status_code == 403


@row("django-axes")
def test_axes(shop: Shop) -> None:
    """Three wrong passwords lock the client's address out, and no other."""
    unlucky, lucky = (f"127.{shop.debug + 1}.{number}.1" for number in (1, 2))
    with shop.browser(address=unlucky) as client:
        answers = [shop.log_in(client, "dave", "a guess").status_code for _ in range(3)]
        assert answers == [200, 200, 429]
        assert shop.log_in(client, "dave", "password-of-dave").status_code == 429
    with shop.browser("dave", address=lucky):
        pass
    with shop.browser("ada") as client:
        attempts = client.get("/admin/axes/accessattempt/").text
        assert unlucky in attempts
        assert lucky not in attempts


@row("django-simple-history")
def test_simple_history(shop: Shop) -> None:
    """The right user is recorded by sync and by async views, for two users at once."""
    with shop.browser("ada") as ada, shop.browser("bob") as bob, ThreadPoolExecutor(8) as pool:

        def change(client: httpx.Client, path: str) -> Any:
            return client.get(f"{path}/{word()}/").raise_for_status().json()["by"]

        for prefix in shop.prefixes:
            for path in (f"{prefix}/change", f"{prefix}/achange"):
                by_ada, by_bob = [], []
                for _ in range(8):
                    by_ada.append(pool.submit(change, ada, path))
                    by_bob.append(pool.submit(change, bob, path))
                assert {future.result() for future in by_ada} == {"ada"}
                assert {future.result() for future in by_bob} == {"bob"}
