"""The emitted pages in a real browser, against the production servers.

Two people in two browsers talk, are cut off, come back and log out; every page is looked at
for errors in the console, for what its policy refused, and for faults of accessibility.
"""

import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.combinations import PAIRWISE, name_of
from tests.conftest import Prepare
from tests.house import House
from tests.site import RESTARTED, Site

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}
# The console tells of a request that found nobody while the server restarts.
AWAY = re.compile(r"WebSocket connection to|Failed to load resource|net::ERR_|502")

# A page that lost its server may have paused for 22 seconds between two attempts.
expect.set_options(timeout=40_000)


class Visitor:
    """Somebody with a browser of their own, and what its console said."""

    def __init__(self, browser: Browser, site: Site, **options: object) -> None:
        self.site = site
        self.complaints: list[str] = []
        self.context: BrowserContext = browser.new_context(base_url=site.origin, **options)  # type: ignore[arg-type]
        self.page: Page = self.context.new_page()
        self.page.on("console", self.note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self.look_at)

    def note(self, message: object) -> None:
        if message.type in ("error", "warning"):  # type: ignore[attr-defined]
            self.complaints.append(message.text)  # type: ignore[attr-defined]

    def look_at(self, request: object) -> None:
        address = request.url  # type: ignore[attr-defined]
        if not re.match(rf"(http|ws)://localhost:{self.site.port}/|data:|blob:", address):
            self.complaints.append(f"asks another site: {address}")

    def log_in(self, user: str) -> None:
        self.page.goto("/accounts/login/")
        self.page.get_by_label("Username").fill(user)
        self.page.get_by_label("Password").fill(f"password-of-{user}")
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("button", name=f"Log out {user}")).to_be_visible()

    def assert_quiet(self, but_for: re.Pattern[str] | None = None) -> None:
        """Check that the console had nothing to say, but for what matches `but_for`."""
        wrong = [one for one in self.complaints if not (but_for and but_for.search(one))]
        assert not wrong, "\n".join(wrong)
        self.complaints.clear()

    def assert_accessible(self) -> None:
        """Check that axe-core finds no serious or critical fault, and nothing sticks out."""
        found = Axe().run(self.page, options={"resultTypes": ["violations"]})
        serious = [
            f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']]}"
            for one in found.response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert not serious, f"{self.page.url}\n" + "\n".join(serious)
        width = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert width <= 0, f"{self.page.url} is {width} px wider than the screen"


STARTS = {"wsgi": "just-gunicorn", "asgi": "just-uvicorn", "both": "caddy"}
# Of the database a browser sees the name.
WAYS = [(answers, STARTS[answers["interface"]]) for answers in PAIRWISE]


@pytest.fixture(
    scope="module",
    params=WAYS,
    ids=[f"{name_of(answers)}-{start}-pages" for answers, start in WAYS],
)
def house(
    request: pytest.FixtureRequest, prepared: Prepare, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Each pair of answers in turn, as `just serve` starts it; `both` behind Caddy."""
    answers, start = request.param
    project, variables = prepared(answers)
    with House(project, start, tmp_path_factory.mktemp("browser"), variables) as house:
        yield house


def pages_of(site: Site) -> list[str]:
    """Return the addresses of the emitted pages, for somebody who is logged in."""
    realtime = {
        "none": [],
        "channels": ["/chat/", "/chat/hall/"],
        "sse": ["/notifications/"],
    }[site.project.answers["realtime"]]
    return ["/", "/no/such/page/", *realtime]


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_pages_are_accessible_and_their_console_is_silent(
    house: House, browser: Browser, screen: dict[str, int], colours: str
) -> None:
    visitor = Visitor(browser, house.site, viewport=screen, color_scheme=colours)
    for address in ("/", "/accounts/login/"):
        visitor.page.goto(address)
        visitor.assert_accessible()
    visitor.log_in("ada")
    if house.site.project.is_(realtime="channels"):
        # Something was said in it already.
        assert house.site.get("/probe/publish/hall/hello/").status_code == 200
    for address in pages_of(house.site):
        visitor.page.goto(address)
        visitor.page.wait_for_timeout(300)
        visitor.assert_accessible()
        skipped = address.startswith("/no/such")
        visitor.assert_quiet(re.compile("404") if skipped else None)
    visitor.context.close()


def chats(house: House) -> bool:
    """Return whether the site has a chat; where it has none, its address says so."""
    if house.site.project.is_(realtime="channels"):
        return True
    assert house.site.get("/chat/").status_code == 404
    return False


@pytest.fixture
def ada_and_bob(house: House, browser: Browser) -> Iterator[tuple[Visitor, Visitor]]:
    """Two people who are logged in, each with a browser."""
    ada, bob = Visitor(browser, house.site), Visitor(browser, house.site)
    ada.log_in("ada")
    bob.log_in("bob")
    yield ada, bob
    for one in (ada, bob):
        one.context.close()


def say(visitor: Visitor, text: str) -> None:
    visitor.page.get_by_label("Message", exact=True).fill(text)
    visitor.page.keyboard.press("Enter")


def texts(visitor: Visitor) -> list[str]:
    """Return what is shown in the log of a room."""
    return visitor.page.locator("#log li span").all_text_contents()


def test_two_people_chat_through_a_restart_and_offline_and_log_out(
    house: House, ada_and_bob: tuple[Visitor, Visitor]
) -> None:
    if not chats(house):
        return
    ada, bob = ada_and_bob
    state = {one: one.page.locator("#state") for one in ada_and_bob}
    for one in ada_and_bob:
        one.page.goto("/chat/cinema/")
        expect(state[one]).to_have_text("live")
    for one in ada_and_bob:
        expect(one.page.locator("#people")).to_have_text("Here now: ada, bob")

    say(ada, "<b>Hello</b> Bob 👋")
    say(bob, "Hello Ada")
    for one in ada_and_bob:
        expect(one.page.locator("#log li")).to_have_count(2)
    for one in ada_and_bob:
        one.assert_quiet()

    # A restart in the middle of it: both pages say so, nothing is lost, both come back.
    seen = {one: one.page.evaluate(WATCH_STATE) for one in ada_and_bob}
    assert set(seen.values()) == {"watching"}
    say(ada, "before")
    house.restart_site()
    say(bob, "after")
    for one in ada_and_bob:
        expect(state[one]).to_have_text("live")
        expect(one.page.locator("#log li")).to_have_count(4)
        assert "connecting" in one.page.evaluate("window.statesSeen")
        one.assert_quiet(AWAY)

    # Typed offline, sent when back; even when the page is loaded again in between.
    ada.context.set_offline(True)
    expect(state[ada]).to_have_attribute("data-state", re.compile("offline|connecting"))
    for number in (1, 2, 3):
        say(ada, f"offline {number}")
    expect(ada.page.locator("#pending li")).to_have_count(3)
    say(bob, "meanwhile")
    ada.context.set_offline(False)
    ada.page.reload()
    expect(ada.page.locator("#pending li")).to_have_count(0)
    for one in ada_and_bob:
        expect(one.page.locator("#log li")).to_have_count(8)
    assert texts(ada) == texts(bob)
    assert [text for text in texts(bob) if "offline" in text] == [
        "offline 1", "offline 2", "offline 3",
    ]  # fmt: skip
    assert len(set(texts(bob))) == 8

    # Faster than one may: it arrives all the same, once each and in order.
    for number in range(12):
        say(bob, f"quick {number}")
    expect(ada.page.locator("#log li")).to_have_count(20)
    assert texts(ada)[8:] == [f"quick {number}" for number in range(12)]

    # Faster than one may was told once, and not for ever.
    expect(bob.page.locator("#problem")).to_be_empty()

    # Who has a new password has a new session: the socket ends, and another one is opened.
    tab = ada.context.new_page()
    tab.goto("/accounts/password_change/")
    for field in ("old_password", "new_password1", "new_password2"):
        tab.locator(f"[name={field}]").fill("password-of-ada")
    ada.page.evaluate(WATCH_STATE)
    tab.locator("main [type=submit]").click()
    expect(tab).to_have_url(re.compile("/accounts/password_change/done/"))
    ada.page.wait_for_function("window.statesSeen.includes('offline')")
    expect(state[ada]).to_have_text("live")

    # Who logs out in another tab hears no more.
    tab.goto("/")
    tab.get_by_role("button", name="Log out ada").click()
    expect(state[ada]).to_have_attribute("data-state", "ended")
    expect(ada.page.get_by_role("link", name="Log in").last).to_be_visible()
    expect(bob.page.locator("#people")).to_have_text("Here now: bob")
    say(bob, "secret")
    expect(bob.page.locator("#log li")).to_have_count(21)
    expect(ada.page.locator("#log li")).to_have_count(20)
    for one in ada_and_bob:
        one.assert_quiet(AWAY)


WATCH_STATE = """() => {
  const state = document.getElementById("state");
  window.statesSeen = [];
  new MutationObserver(() => window.statesSeen.push(state.dataset.state)).observe(
    state, { attributes: true }
  );
  return "watching";
}"""


# Nobody ever answers. For how many seconds the page waited for it, each time that it tried.
BUSY = """
    window.waited = [];
    window.WebSocket = class {
        constructor() { this.begun = Date.now(); }
        close() { window.waited.push((Date.now() - this.begun) / 1000); }
    };
"""


def test_page_is_more_patient_with_each_attempt(house: House, browser: Browser) -> None:
    """A crowd that came again after the same time would never be let in."""
    if not chats(house):
        return
    visitor = Visitor(browser, house.site)
    visitor.log_in("ada")
    visitor.page.clock.install()
    visitor.page.add_init_script(BUSY)
    visitor.page.goto("/chat/lobby/")
    visitor.page.clock.run_for(900_000)

    waited = visitor.page.evaluate("window.waited")
    assert len(waited) > 5
    assert waited[:4] == sorted(waited[:4])
    for attempt, seconds in enumerate(waited):
        # Half as long again by chance, so that they come apart; it looks every 5 seconds.
        expected = min(10 * 2**attempt, 80)
        assert expected < seconds <= expected * 1.5 + 5, waited
    visitor.context.close()


def test_home_page_shows_what_answers(house: House, browser: Browser) -> None:
    visitor = Visitor(browser, house.site)
    visitor.page.goto("/")

    if house.site.project.is_(realtime="channels"):
        expect(visitor.page.locator("#websocket")).to_contain_text("live, ASGI")
    if house.site.project.is_(interface="both"):
        expect(visitor.page.locator("#async-status")).to_contain_text("ASGI, uvicorn")
    expect(visitor.page.locator("#interface")).to_have_text(
        "ASGI" if house.site.project.is_(interface="asgi") else "WSGI"
    )
    visitor.assert_quiet()
    visitor.context.close()


def test_log_of_the_server_is_clean(house: House) -> None:
    house.site.assert_clean_log(but_for=RESTARTED, restarted=True)
