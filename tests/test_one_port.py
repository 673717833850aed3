"""The hosts of docs/hosts.md: one command, PORT, a router on another machine, SIGTERM for all.

The commands are those of the page, and the headers those that such hosts were seen to send.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import create_connection
from tempfile import TemporaryDirectory

import httpx
import pytest
from websockets.sync.client import connect

from tests.combinations import CHOICES, TEMPLATE
from tests.conftest import Bake
from tests.network import Host, Network, network, process
from tests.project import PRODUCTION, Project
from tests.services import answers, postgresql, wait_until
from tests.site import Site, close_code, prepare, probes_of, slow_request, wait_for_exit

pytestmark = pytest.mark.deploy

PAGE = (TEMPLATE / "docs" / "hosts.md").read_text(encoding="utf-8")
NAME = "shop.example"
CLIENT = "203.0.113.77"
FORGED = "192.0.2.66"
# What follows the client in X-Forwarded-For, and has to be trusted beside the router.
CDN, OWN, EDGE = "104.22.17.40", "2a09:8280:1::af:1aa1:0", "152.233.33.7"
LISTS = {
    "heroku": f"{FORGED}, {CLIENT}",
    "fly": f"{FORGED}, {CLIENT}, {OWN}",
    "render": f"{FORGED}, {CLIENT}, {CDN}",
    "railway": f"{CLIENT}, {EDGE}",
    "dokku": CLIENT,
}


def procfile(interface: str) -> dict[str, str]:
    """Return the commands of the page for an interface, by their names."""
    block = re.search(rf"With `interface=[^:]*`{interface}`[^:]*:\n\n```\n(.*?)```", PAGE, re.S)
    block = block or re.search(rf"With `interface={interface}`[^:]*:\n\n```\n(.*?)```", PAGE, re.S)
    assert block, interface
    return dict(line.split(": ", 1) for line in block[1].splitlines())


class Dyno:
    """A machine of a host, its router, and the services that it sells."""

    def __init__(self, project: Project, folder: Path, hosts: Network) -> None:
        self.project = project
        self.folder = folder
        self.router: Host = hosts["router"]
        self.host: Host = hosts["dyno"]
        self.starts = 0
        self.variables = PRODUCTION | {
            "HOST": "0.0.0.0",
            "PORT": "23456",
            "DJANGO_ALLOWED_HOSTS": NAME,
            "DATABASE_URL": "postgres://shop:secret@data:5432/shop",
            "REDIS_URL": "redis://data:6379/0",
            "WEB_CONCURRENCY": "2",
            "DJANGO_SETTINGS_MODULE": "probe_settings",
            "PYTHONPATH": str(probes_of(project)),
        }

    @contextmanager
    def runs(self, command: str, **variables: str) -> Iterator[Site]:
        """Run a command of the Procfile as such a host does, on its machine."""
        self.starts += 1
        log = self.folder / f"log-{self.starts}"
        with log.open("wb") as output:
            started = subprocess.Popen(
                [*self.host.enter, "bash", "-c", command],
                cwd=self.project.path,
                env=self.project.environment(**self.variables | variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        site = Site(self.project, started, 23456, log, "", host=self.host.address)
        try:
            yield site
        except BaseException:
            print(site.log[-10_000:])
            raise
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGTERM)
                started.wait(timeout=30)

    @contextmanager
    def serves(self, command: str, **variables: str) -> Iterator[Site]:
        with self.runs(command, **variables) as site, self.router.entered():

            def listens() -> bool:
                assert site.process.poll() is None, site.log
                return answers(site.port, site.host)

            wait_until(listens, f"{command} listens")
            yield site


@pytest.fixture(params=CHOICES["interface"])
def dyno(request: pytest.FixtureRequest, install: Bake, tmp_path: Path) -> Iterator[Dyno]:
    realtime = "none" if request.param == "wsgi" else "channels"
    project = install(interface=request.param, realtime=realtime, database="postgresql")
    for folder in (*reversed(tmp_path.parents), tmp_path):
        if folder.stat().st_mode & 0o777 == 0o700:
            folder.chmod(0o711)  # for the user of PostgreSQL
    with ExitStack() as stack:
        hosts = stack.enter_context(network("router", "dyno", "data"))
        data = stack.enter_context(TemporaryDirectory(prefix="tests-postgresql-"))
        stack.enter_context(postgresql(Path(data), hosts["data"], "shop", "secret"))
        stack.enter_context(
            process(hosts["data"], "redis-server", "--save", "", "--protected-mode", "no")
        )
        dyno = Dyno(project, tmp_path, hosts)
        with hosts["data"].entered():
            # The build has no services; where it is done on this machine, it may have them.
            local = {"DATABASE_URL": "postgres://shop:secret@127.0.0.1:5432/shop"}
            prepare(project, **dyno.variables | local)
        yield dyno


def client_of(site: Site, request_id: str) -> str:
    """Return who asked, as the log says it."""
    wait_until(lambda: site.lines_of(request_id), "the access line is written")
    return site.lines_of(request_id)[0]["client"]


def get(site: Site, path: str, **headers: str) -> httpx.Response:
    """Ask as the router does."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.get(path, headers={"Host": NAME} | headers)


def test_site_runs_where_there_is_one_command_and_one_port(dyno: Dyno) -> None:
    commands = procfile(dyno.project.answers["interface"])
    with dyno.runs(commands["release"]) as release:
        assert release.process.wait(timeout=60) == 0, release.log

    # As the page says it: without the variable, the log tells whom to trust.
    with dyno.serves(commands["web"]) as site:
        answer = get(site, "/", X_Forwarded_Proto="https", X_Forwarded_For=CLIENT)
        assert answer.status_code == 301
        assert client_of(site, answer.headers["X-Request-ID"]) == dyno.router.address
        assert site.get("/health/ready").json()["status"] == "ok"

    # Then the next one that is not trusted yet.
    trusted = dyno.router.address.rpartition(".")[0] + ".0/24"
    with dyno.serves(commands["web"], FORWARDED_ALLOW_IPS=trusted) as site:
        answer = get(site, "/", X_Forwarded_Proto="https", X_Forwarded_For=LISTS["render"])
        assert answer.status_code == 200
        assert client_of(site, answer.headers["X-Request-ID"]) == CDN

    trusted = f"{trusted},104.16.0.0/13,152.233.33.0/24,{OWN}"
    with dyno.serves(commands["web"], FORWARDED_ALLOW_IPS=trusted) as site:
        for host, addresses in LISTS.items():
            answer = get(site, "/", X_Forwarded_Proto="https", X_Forwarded_For=addresses)
            assert answer.status_code == 200
            assert "Strict-Transport-Security" in answer.headers
            assert client_of(site, answer.headers["X-Request-ID"]) == CLIENT, host
        answer = get(site, "/", X_Forwarded_Proto="http", X_Forwarded_For=CLIENT)
        assert (answer.status_code, answer.headers["Location"]) == (301, f"https://{NAME}/")
        [style] = re.findall(r'href="(/static/site\.\w+\.css)"', get_page(site))
        assert get(site, style).status_code == 200
        stop(dyno, site)


def get_page(site: Site) -> str:
    return get(site, "/", X_Forwarded_Proto="https").text


def stop(dyno: Dyno, site: Site) -> None:
    """Let every process get SIGTERM at once, with an open request and an open socket."""
    with ExitStack() as stack:
        socket = None
        if not dyno.project.is_(realtime="none"):
            socket = stack.enter_context(
                connect(
                    f"ws://{NAME}/ws/status/",
                    sock=create_connection((site.host, site.port)),
                    origin=f"https://{NAME}",  # type: ignore[arg-type]
                    additional_headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": CLIENT},
                    proxy=None,
                )
            )
            assert "ASGI" in socket.recv(timeout=10)
        # gunicorn starts them one after the other.
        wait_until(lambda: len(site.workers()) == 2, "both workers are there")
        workers = [worker.pid for worker in site.workers()]
        headers = {"Host": NAME, "X-Forwarded-Proto": "https"}
        under_way = slow_request(site, headers=headers)

        os.killpg(site.process.pid, signal.SIGTERM)

        assert site.process.wait(timeout=25) == 0
        assert under_way.result().json() == {"slept": 3}
        wait_for_exit(workers)
        if socket:
            assert close_code(socket) == 1012
    site.assert_clean_log()
