"""The first ten minutes: `uv run just dev` in a project that was generated just now."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from docs import terminal
from tests.combinations import PAIRWISE, name_of
from tests.conftest import Bake
from tests.project import uv
from tests.services import wait_until
from tests.site import Site, running, wait_for_exit
from tests.test_pictures import words

pytestmark = pytest.mark.serve


@pytest.fixture(scope="module", params=PAIRWISE, ids=name_of)
def site(
    request: pytest.FixtureRequest, bake: Bake, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Each pair of answers in turn, started with no environment, no lock and no database.

    In development all of them use SQLite. Pairs are enough: the server depends on the interface
    alone, and other answers add applications to it.
    """
    project = bake(**request.param)
    log = tmp_path_factory.mktemp("dev") / "log"
    # The first start loads packages.
    with running(project, [uv(), "run", "just", "dev"], log, seconds=300) as site:
        yield site
    shutil.rmtree(project.path / ".venv")


EXTRA_VIEW = """
from django.shortcuts import render

def page(request):
    return render(request, "extra.html", {"word": "first"})
"""
ANOTHER_VIEW = """from django.http import HttpResponse

urlpatterns = [
    path("seen/", lambda request: HttpResponse("seen")),
"""
# What a page asks for: a script and an image from elsewhere, a font, and a script without nonce.
WANTED = """() => {
    const add = (name, values) =>
        document.body.append(Object.assign(document.createElement(name), values));
    add("script", {src: "https://cdn.example/x.js"});
    add("img", {src: "https://images.example/x.png"});
    add("script", {textContent: "1"});
    new FontFace("x", "url(https://fonts.example/x.woff2)").load().catch(() => {});
}"""


def logged(site: Site, pattern: str) -> bool:
    return bool(re.search(pattern, site.log))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_first_start_needs_no_manual_step(site: Site) -> None:
    page = site.get("/")

    assert page.status_code == 200
    interface = "WSGI" if site.project.is_(interface="wsgi") else "ASGI"
    assert f'<dd id="interface">{interface}</dd>' in page.text
    assert "<dd>SQLite</dd>" in page.text
    for name in ("uv.lock", "db.sqlite3", ".venv"):
        assert (site.project.path / name).exists()


def test_address_that_is_printed_is_the_one_to_open(site: Site) -> None:
    assert re.search(rf"http://(127\.0\.0\.1|localhost):{site.port}", site.log)


def test_picture_in_the_readme_shows_the_address(site: Site) -> None:
    if not site.project.is_(interface="wsgi"):
        shown = words(terminal.PICTURE)
        line = next(line for line in shown if line.startswith("Uvicorn running on"))
        assert line.replace(":8000", f":{site.port}") in site.log


def test_static_files_work_without_collecting_them(site: Site) -> None:
    for page in ("/", "/admin/login/"):
        names = re.findall(r'(?:href|src)="(/static/[^"]+)"', site.get(page).text)
        assert names
        for name in names:
            assert site.get(name).status_code == 200, name
    assert not (site.project.path / "staticfiles").exists()


def test_errors_are_explained(site: Site) -> None:
    assert "Using the URLconf" in site.get("/no/such/page/").text


def test_websocket_opens(site: Site) -> None:
    if site.project.is_(realtime="channels"):
        with site.socket(path="/ws/status/", user=None) as socket:
            assert json.loads(socket.recv(timeout=5)) == {"interface": "ASGI"}
    else:
        assert site.refusal(path="/ws/status/", user=None) in (403, 404)


def test_mail_goes_to_the_terminal(site: Site) -> None:
    output = site.project.must(uv(), "run", "just", "manage", "sendtestemail", "ada@example.com")

    assert "To: ada@example.com" in output


def test_template_and_code_are_reloaded(site: Site) -> None:
    welcome = site.project.path / site.project.slug / "welcome"

    edit(welcome / "templates/welcome/home.html", "is running", "is being edited")
    wait_until(lambda: "is being edited" in site.reloaded("/"), "the template is reloaded")
    edit(welcome / "views.py", "django.get_version()", '"edited-too"')
    wait_until(lambda: "edited-too" in site.reloaded("/"), "the code is reloaded")


def test_app_at_the_root_is_reloaded(site: Site) -> None:
    site.project.must(uv(), "run", "--quiet", "django-admin", "startapp", "extra")
    app = site.project.path / "extra"
    (app / "templates").mkdir()
    (app / "templates" / "extra.html").write_text("a page of its own {{ word }}")
    (app / "views.py").write_text(EXTRA_VIEW)
    config = site.project.path / "config"
    edit(config / "settings.py", "APPS = [\n", 'APPS = [\n    "extra",\n')
    edit(
        config / "urls.py",
        "urlpatterns = [\n",
        'from extra.views import page\n\nurlpatterns = [\n    path("extra/", page),\n',
    )
    wait_until(lambda: "its own first" in site.reloaded("/extra/"), "the app is there")

    # The server has just started: it sees changes of files that it has seen before.
    time.sleep(3)
    edit(app / "templates" / "extra.html", "of its own", "that was edited")
    wait_until(lambda: "edited first" in site.reloaded("/extra/"), "the template is reloaded")
    edit(app / "views.py", "first", "second")
    wait_until(lambda: "edited second" in site.reloaded("/extra/"), "the code is reloaded")


def test_upload_reloads_nothing(site: Site) -> None:
    """Whatever its name ends in; nobody had made its folder when the server started."""
    media = site.project.path / "media"
    media.mkdir(exist_ok=True)
    time.sleep(0.5)  # a watcher has to see the folder before what is in it
    for name in ("page.html", "script.py"):
        (media / name).write_text("")
    # What changes next is seen after them.
    edit(site.project.path / "config" / "urls.py", "urlpatterns = [\n", ANOTHER_VIEW)
    wait_until(lambda: site.reloaded("/seen/") == "seen", "the code is reloaded")

    assert "media/" not in site.log


def test_log_names_what_the_policy_refused_and_what_to_add(site: Site, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{site.origin}/accounts/login/")
    page.evaluate(WANTED)

    on = rf"on {site.origin}/accounts/login/:"
    for line in (
        rf'https://cdn.example/x.js {on} add "https://cdn.example" to "script-src"',
        rf'https://images.example/x.png {on} add "https://images.example" to "img-src"',
        rf'https://fonts.example/x.woff2 {on} add "font-src": \[CSP.SELF, "https://fonts.example"\]',
        rf"inline {on} give the element nonce=",
    ):
        wait_until(partial(logged, site, line), line)
    page.close()


def test_log_is_clean(site: Site) -> None:
    site.assert_clean_log(but_for="detected changes in|changed, reloading|policy refused")


def test_sigterm_ends_everything(site: Site) -> None:
    site.note_family()
    assert len(site.family) > 1

    site.stop(seconds=10)

    wait_for_exit([*site.family])
