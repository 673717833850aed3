"""A project in a folder with an odd name, where temporary files cannot be executed."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Bake
from tests.project import PRODUCTION, Project
from tests.services import missing
from tests.site import Site, running

pytestmark = pytest.mark.serve

HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
# In a URL # and ? end the path, and %25 is another character.
ODD = "c#1 50%25 what? $x 'q'"
NOEXEC = 'mount -t tmpfs -o noexec none "$TMPDIR" && exec "$@"'


@contextmanager
def placed(installed: Project, folder: Path, recipe: str) -> Iterator[Site]:
    """Run a recipe of `just` in such a project."""
    if os.geteuid() != 0:
        missing("root, who may mount folders,", "sudo, and run the tests with it")
    project = Project(folder / ODD / "corner_shop", installed.answers)
    left_out = shutil.ignore_patterns(".venv", "*.sqlite3*", "staticfiles", "media")
    shutil.copytree(installed.path, project.path, ignore=left_out)
    (project.path / ".venv").symlink_to(installed.path / ".venv")
    (folder / "tmp").mkdir()
    variables = PRODUCTION | {"TMPDIR": str(folder / "tmp"), "WEB_CONCURRENCY": "1"}
    command = ["unshare", "--mount", "sh", "-c", NOEXEC, "sh", "env", "--unset=XDG_RUNTIME_DIR"]
    with running(project, [*command, "just", recipe], folder / "log", **variables) as site:
        yield site


# Each server with and without a live part; for both, `just serve` starts a proxy, too.
WAYS = [("wsgi", "none"), ("asgi", "sse"), ("asgi", "channels"), ("both", "channels")]


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def site(
    request: pytest.FixtureRequest, install: Bake, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Such a project as `just serve` runs it."""
    interface, realtime = request.param
    installed = install(interface=interface, realtime=realtime, database="sqlite")
    with placed(installed, tmp_path_factory.mktemp("places"), "serve") as site:
        yield site


@pytest.mark.parametrize("interface", ["wsgi", "asgi", "both"])
def test_development_server_starts_there_too(interface: str, install: Bake, tmp_path: Path) -> None:
    installed = install(interface=interface, realtime="none", database="sqlite")
    with placed(installed, tmp_path, "dev") as site:
        assert site.get("/").status_code == 200
        assert (site.project.path / "db.sqlite3").stat().st_size > 0


def status(site: Site, request: str) -> int:
    """Send a request as it stands here, and return the status of the answer."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(request.encode())
        return int(connection.makefile("rb").readline().split()[1])


def test_database_lies_in_the_folder_of_the_project(site: Site) -> None:
    assert (site.project.path / "db.sqlite3").stat().st_size > 0
    # Nothing that is named like a part of the folder's name.
    assert {path.name for path in site.project.path.parent.parent.iterdir()} == {
        ODD, "tmp", "log",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///a%20b%23%3F%25.sqlite3", "a b#?%.sqlite3"),
        ("sqlite:///../c%231.sqlite3", "../c#1.sqlite3"),
    ],
)
def test_database_lies_where_its_url_says_wherever_it_is_asked_from(
    site: Site, tmp_path: Path, url: str, file: str
) -> None:
    project = site.project
    manage = [str(project.bin / "python"), str(project.path / "manage.py"), "migrate"]
    project.must("sh", "-c", f'cd {tmp_path} && exec "$@"', "sh", *manage,
                 DJANGO_DEBUG="true", DATABASE_URL=url)  # fmt: skip

    assert (project.path / file).stat().st_size > 0
    assert not [*tmp_path.iterdir()]


def test_list_of_static_files_is_not_public(site: Site) -> None:
    assert (site.project.path / "staticfiles" / "staticfiles.json").exists()

    assert site.get("/static/staticfiles.json").status_code == 404
    assert site.get("/static/site.css").status_code == 200


@pytest.mark.parametrize("path", ["/", "/static/site.css"])
def test_host_is_asked_for_where_http_asks_for_it(site: Site, path: str) -> None:
    # RFC 9112, section 3.2.
    assert status(site, f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n") == 400
    assert status(site, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n") == 200
    assert status(site, f"GET {path} HTTP/1.0\r\n\r\n") == 200


def test_host_is_asked_for_by_streams_and_sockets(site: Site) -> None:
    """First of all: a stream refuses whoever is not logged in, as the chat does."""
    if site.project.is_(interface="wsgi"):
        return
    asked = [("/ws/chat/lobby/", HANDSHAKE, 403)]
    if site.project.is_(realtime="sse"):
        asked.append(("/events/", "", 401))
    for path, headers, expected in asked:
        head = f"GET {path} HTTP/1.1\r\n{headers}Origin: {site.origin}\r\n"
        assert status(site, f"{head}\r\n") == 400
        assert status(site, f"{head}Host: localhost:{site.port}\r\n\r\n") == expected


def test_dot_behind_the_host_makes_no_difference(site: Site) -> None:
    """For a page, and for its form; sockets are in tests/attack/, proxies in tests/proxies/."""
    for host in ("localhost", "localhost.", f"localhost.:{site.port}"):
        assert status(site, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n") == 200
        token, body = "a" * 32, f"csrfmiddlewaretoken={'a' * 32}&username=x&password=x"
        form = (
            f"POST /accounts/login/ HTTP/1.1\r\nHost: {host}\r\nCookie: csrftoken={token}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n"
        )
        # The form again; as a form of another site it is refused.
        assert status(site, f"{form}Origin: http://{host}\r\n\r\n{body}") == 200
        assert status(site, f"{form}Origin: http://x.{host}\r\n\r\n{body}") == 403
