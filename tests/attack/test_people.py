"""What people write for others to see."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.attack import EXPECTED
from tests.site import Site, next_frame, say

pytestmark = pytest.mark.serve

EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>{{ 7*7 }} \u202eevil"


@contextmanager
def page_of(browser: Browser, site: Site, path: str) -> Iterator[tuple[Page, list[Any]]]:
    """Yield ada's page at `path`, and what ran in it that should not have."""
    alarms: list[Any] = []
    with browser.new_context() as context:
        cookies = dict(pair.split("=", 1) for pair in site.cookies_of("ada").split("; "))
        context.add_cookies(
            [{"name": n, "value": v, "url": site.origin} for n, v in cookies.items()]
        )
        page = context.new_page()
        page.on("dialog", lambda dialog: alarms.append(dialog.message) or dialog.dismiss())
        page.on("console", lambda said: alarms.append(said.text) if said.type == "error" else None)
        page.goto(site.origin + path)
        yield page, alarms


def test_what_people_write_is_text_and_turns_no_other(site: Site, browser: Browser) -> None:
    """As it stands in the page, and as it comes later."""
    if site.project.is_(realtime="none"):
        return
    with ExitStack() as stack:
        if site.project.is_(realtime="channels"):
            path, items = "/chat/evil/", "#log li span"
            bob = stack.enter_context(site.socket(path="/ws/chat/evil/", user="bob"))

            def write(text: str) -> None:
                say(bob, text)
                next_frame(bob, "stored")
        else:
            path, items = "/notifications/", "#notifications li span"
            ada = stack.enter_context(site.browser("ada"))

            def write(text: str) -> None:
                site.submit(ada, "/notifications/", text=text)

        write(EVIL)
        page, alarms = stack.enter_context(page_of(browser, site, path))
        # Then it comes over a connection that is open.
        page.locator("#state[data-state=live]").wait_for(state="attached")
        write(f"{EVIL} again")
        page.get_by_text("evil again").wait_for()

        # Other tests have written there, too.
        found = page.locator(items).filter(has_text="evil")
        assert {text.removesuffix(" again") for text in found.all_text_contents()} == {EVIL}
        assert found.count() == 2
        isolated = "elements => elements.map(one => getComputedStyle(one).unicodeBidi)"
        assert set(found.evaluate_all(isolated)) == {"isolate"}
        assert page.locator("main img, main script").count() == 0
        assert alarms == []


def test_notifications_are_for_one_person(site: Site) -> None:
    if not site.project.is_(realtime="sse"):
        return
    with site.browser("bob") as bob, site.browser("ada") as ada:
        site.submit(bob, "/notifications/", text="for bob\n\nevent: x\ndata: forged")
        others = re.search(r'data-user="(\d+)"', bob.get("/notifications/").text)
        assert others
        assert "for bob" not in ada.get("/notifications/").text
        assert ada.get("/events/", params={"user": others[1]}).status_code == 401
        for after in ("0", "-1", "9" * 18, "9" * 400, "1e3", "\u0663", "0\n", "0; drop table"):
            options: dict[str, Any] = {
                "params": {"after": after},
                "headers": {"Last-Event-ID": after.replace("\n", "").encode()},
            }
            with ada.stream("GET", "/events/", **options) as stream:
                lines = stream.iter_lines()
                assert next(lines).startswith("retry:")
                site.submit(ada, "/notifications/", text="for ada")
                heard = ""
                while "for ada" not in heard:
                    heard = next(lines)
                    assert "for bob" not in heard
        with bob.stream("GET", "/events/", params={"after": "0"}) as stream:
            for line in stream.iter_lines():
                assert line != "event: x"
                if "for bob" in line:
                    assert line.startswith("data: {")
                    break


def test_log_is_clean(site: Site) -> None:
    site.assert_clean_log(EXPECTED)
