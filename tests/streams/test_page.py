"""A stream in the development server, and in a browser's page."""

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.conftest import FLAGS, Prepare
from tests.services import missing, wait_until
from tests.site import COMMANDS, running
from tests.streams.house import HEARTBEAT, TEXT, alone
from tests.test_browser import AWAY, Visitor

pytestmark = pytest.mark.serve


def test_development_server_reloads_with_streams_open(prepared: Prepare, tmp_path: Path) -> None:
    house = alone(prepared, tmp_path)
    command = [*COMMANDS["uvicorn"], "--reload"]
    variables = house.variables | {"DJANGO_DEBUG": "true"}
    with (
        running(house.project, command, tmp_path / "log", **variables) as house.site,
        house.streams,
    ):
        stream = house.open()
        assert stream.next("")

        views = house.project.path / house.project.slug / "welcome" / "views.py"
        views.write_text(views.read_text())

        assert stream.end(10)
        house.send("meanwhile")
        assert house.texts(stream, 1) == ["meanwhile"]
        assert "Cancel" not in house.site.log


@contextmanager
def bad_gateway(port: int) -> Iterator[None]:
    """Answer everything on `port` with 502, as a proxy does whose server is away."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(502)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


# Before the page's own scripts: it counts its streams, and loses patience after 20 seconds.
COUNTING = """
    window.opened = 0;
    const wait = window.setTimeout;
    window.setTimeout = (call, pause) => wait(call, pause === 40000 ? 20000 : pause);
    window.EventSource = class extends EventSource {
        constructor(url) {
            super(url);
            window.opened += 1;
        }
    };
"""


@pytest.mark.browser
def test_page_shows_what_is_sent_while_it_is_open(prepared: Prepare, tmp_path: Path) -> None:
    house = alone(prepared, tmp_path)
    program = shutil.which("chromium") or missing("Chromium", "chromium")
    with house.server, sync_playwright() as playwright:
        house.start_site()
        visitor = Visitor(
            playwright.chromium.launch(executable_path=program, args=FLAGS), house.site
        )
        page = visitor.page
        page.add_init_script(COUNTING)
        state, items = page.locator("#state"), page.locator("#notifications li :last-child")
        visitor.log_in("ada")
        page.goto("/notifications/")
        expect(state).to_have_text("live")
        before = items.all_text_contents()

        page.get_by_label("Text").fill("from the form")
        page.get_by_role("button", name="Notify me").click()
        expect(items.first).to_have_text("from the form")
        house.send(TEXT)
        expect(items).to_have_text([TEXT, "from the form", *before])
        # A heartbeat is a word: this page waits for 20 seconds.
        page.wait_for_timeout(2 * HEARTBEAT * 1000 + 2000)
        assert page.evaluate("window.opened") == 1
        expect(state).to_have_text("live")
        visitor.assert_quiet()

        # Silence on a connection that stays open.
        [worker] = house.site.workers()
        worker.suspend()
        wait_until(lambda: page.evaluate("window.opened") == 2, "a second stream is opened", 25)
        worker.resume()
        expect(state).to_have_text("live")

        # An answer that is no stream is final to an EventSource.
        house.site.stop(seconds=15)
        expect(state).to_have_attribute("data-state", "offline")
        with bad_gateway(house.port):
            wait_until(lambda: page.evaluate("window.opened") > 3, "it tries again", 20)
        house.send("meanwhile")
        house.start_site()
        expect(state).to_have_text("live", timeout=40_000)
        expect(items).to_have_text(["meanwhile", TEXT, "from the form", *before])

        visitor.context.set_offline(True)
        visitor.context.set_offline(False)
        house.send("again")
        expect(items.first).to_have_text("again")

        tab = visitor.context.new_page()
        tab.goto("/")
        tab.get_by_role("button", name="Log out ada").click()
        expect(state).to_have_attribute("data-state", "ended", timeout=(HEARTBEAT + 10) * 1000)
        expect(state.get_by_role("link", name="Log in")).to_be_visible()
        visitor.assert_quiet(but_for=re.compile(f"{AWAY.pattern}|401"))
