"""The first ten minutes: `uv run just dev` in a project that was generated just now."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.combinations import SITES, name_of
from tests.conftest import Bake
from tests.project import uv
from tests.services import wait_until
from tests.site import Site, running, wait_for_exit

pytestmark = pytest.mark.serve


@pytest.fixture(scope="module", params=SITES, ids=name_of)
def site(
    request: pytest.FixtureRequest, bake: Bake, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Each combination in turn, started with no environment, no lock and no database."""
    project = bake(**request.param)
    log = tmp_path_factory.mktemp("dev") / "log"
    with running(project, [uv(), "run", "just", "dev"], log) as site:
        yield site
    shutil.rmtree(project.path / ".venv")


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
            assert "uvicorn" in str(socket.recv(timeout=5))
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


def test_log_is_clean(site: Site) -> None:
    site.assert_clean_log(but_for="detected changes in|changed, reloading")


def test_sigterm_ends_everything(site: Site) -> None:
    site.note_family()
    assert len(site.family) > 1

    site.stop(seconds=10)

    wait_for_exit([*site.family])
