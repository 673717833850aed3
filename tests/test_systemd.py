"""deployment=systemd: the units as systemd reads them, and a machine that is installed for real.

The machine has Debian's own systemd and nginx, so what the units forbid is forbidden there, and
its sockets are passed on by systemd.
"""

import http.client
import json
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from tests.combinations import VALID, Answers, name_of
from tests.conftest import Bake, Prepare
from tests.machine import Machine, machine
from tests.project import Project
from tests.services import missing, wait_until
from tests.site import is_running

pytestmark = pytest.mark.deploy

SYSTEMD = [answers for answers in VALID if answers["deployment"] == "systemd"]
# Between them every server, alone and beside the other, on both databases.
MACHINES = [
    {"interface": "wsgi", "realtime": "none", "database": "postgresql"},
    {"interface": "both", "realtime": "channels", "database": "sqlite"},
]
DOMAIN = "site.example.org"
# Of https://www.freedesktop.org/software/systemd/man/latest/systemd-analyze.html: 5 is "medium".
MOST_EXPOSED = 2.5
LOAD = str(Path(__file__).with_name("load.py"))

type Unit = dict[str, list[str]]


def roles_of(project: Project) -> dict[str, int]:
    """Return the servers of a project, and the ports on which systemd listens for them."""
    return {"pages": 8001, "live": 8002} if project.is_(interface="both") else {"web": 8000}


def unit(project: Project, name: str) -> Unit:
    """Return a unit's settings with all their values, in order."""
    found: Unit = defaultdict(list)
    for line in project.read(f"deploy/systemd/{project.slug}-{name}").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


@pytest.fixture(scope="module", params=SYSTEMD, ids=name_of)
def emitted(request: pytest.FixtureRequest, bake: Bake) -> Project:
    """Each combination with units, as baked."""
    if not shutil.which("systemd-analyze"):
        missing("systemd-analyze", "systemd")
    return bake(**request.param)


# What is written


def test_systemd_understands_every_line(emitted: Project, tmp_path: Path) -> None:
    for path in (emitted.path / "deploy/systemd").glob(f"{emitted.slug}-*"):
        # Its programs have to exist.
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", path.read_text(), flags=re.M)
        (tmp_path / path.name).write_text(text)
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.glob("*"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout
    # Older ones do without, which the unit says.
    newer = r".*Unknown key (name )?'Restart(Steps|MaxDelaySec)' in section \[?'?Service.*\n"
    assert not re.sub(newer, "", said)


def test_a_taken_over_server_can_do_little(emitted: Project) -> None:
    services = [*roles_of(emitted), "migrate"]
    for name in services:
        path = emitted.path / f"deploy/systemd/{emitted.slug}-{name}.service"
        said = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
            capture_output=True,
            text=True,
        ).stdout
        exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])
        assert exposure < MOST_EXPOSED, said
    units = [unit(emitted, f"{name}.service") for name in services]
    # The same user and the same confines: what one may not do it cannot have done by another.
    for key in ("User", "ProtectSystem", "CapabilityBoundingSet", "SystemCallFilter",
                "RestrictAddressFamilies", "StateDirectory", "EnvironmentFile"):  # fmt: skip
        assert units[0][key], key
        assert all(other[key] == units[0][key] for other in units), key


def test_every_place_names_the_same_things(emitted: Project) -> None:
    slug, roles = emitted.slug, roles_of(emitted)
    script = emitted.read("deploy/systemd/install.sh")
    files = {path.name for path in (emitted.path / "deploy/systemd").iterdir()}
    kinds = {f"{slug}-{role}.{kind}" for role in roles for kind in ("socket", "service")}
    assert files == kinds | {f"{slug}-migrate.service", "environment", "install.sh", "nginx.conf"}
    assert f"\nroles=({' '.join(roles)})\n" in script
    nginx = emitted.read("deploy/systemd/nginx.conf")
    assert set(re.findall(r"server 127\.0\.0\.1:(\d+);", nginx)) == {
        str(port) for port in roles.values()
    }
    assert "root /var/www/letsencrypt;" in nginx
    assert "/etc/letsencrypt/live/example.com/" in nginx
    assert f"site={slug}\n" in script
    [user] = unit(emitted, "migrate.service")["User"]
    assert f"user={user}\n" in script
    assert slug.startswith(user)
    assert len(user) < 32
    [folder] = unit(emitted, "migrate.service")["StateDirectory"]
    environment = emitted.read("deploy/systemd/environment")
    if emitted.is_(database="sqlite"):
        assert f"DATABASE_URL=sqlite:////var/lib/{folder}/db.sqlite3\n" in environment
    # Every variable is one that the site reads.
    assert set(re.findall(r"^(?:# )?([A-Z_]+)=", environment, re.M)) <= set(
        re.findall(r'env\.\w+\(\s*"(\w+)"', emitted.read("config/environment.py"))
    )
    for role, port in roles.items():
        assert unit(emitted, f"{role}.socket")["ListenStream"] == [f"127.0.0.1:{port}"]
        service = unit(emitted, f"{role}.service")
        assert service["Requires"] == [f"{slug}-{role}.socket"]
        gunicorn = "gunicorn" in service["ExecStart"][0]
        assert gunicorn == (role == "pages" or emitted.is_(interface="wsgi"))
        graceful = (
            re.search(r"^graceful_timeout = (\d+)$", emitted.read("config/gunicorn.conf.py"), re.M)
            if gunicorn
            else re.search(
                r'"timeout_graceful_shutdown": (\d+),', emitted.read("config/uvicorn_conf.py")
            )
        )
        assert int(graceful[1]) == 20
        assert service["TimeoutStopSec"] == ["30"]


def test_install_script_is_clean(emitted: Project) -> None:
    script = emitted.path / "deploy/systemd/install.sh"
    assert script.stat().st_mode & 0o111
    emitted.must(str(Path(sys.executable).with_name("shellcheck")), str(script))


def test_long_names_have_a_user_that_linux_allows(bake: Bake) -> None:
    project = bake(project_slug="a" * 40, deployment="systemd")
    assert unit(project, "web.service")["User"] == ["a" * 31]


# The socket that systemd passes, without systemd


@contextmanager
def passed(
    project: Project, unit: Unit, listener: socket.socket, log: Path, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a unit's command in an installed project, with `listener` as systemd passes it."""
    program, *arguments = shlex.split(unit["ExecStart"][0])
    here = project.bin / Path(program).name
    code = f'exec 3<&{listener.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["bash", "-c", code, "bash", str(here), *arguments],
            cwd=project.path,
            env=project.environment(**variables),
            pass_fds=[listener.fileno()],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


def wait_until_accepted(process: subprocess.Popen[bytes], *clients: socket.socket) -> None:
    """Wait until a server, or a worker of it, has taken the connections of all `clients`."""
    names = {client.getsockname() for client in clients}

    def accepted() -> bool:
        server = psutil.Process(process.pid)
        family = [server, *server.children(recursive=True)]
        return names <= {each.raddr for one in family for each in one.net_connections("tcp")}

    wait_until(accepted, "the connections are accepted")


@pytest.mark.parametrize(
    "answers",
    [
        {"interface": "wsgi", "realtime": "none", "database": "sqlite"},
        {"interface": "asgi", "realtime": "none", "database": "sqlite"},
    ],
    ids=lambda answers: f"{name_of(answers)}-passed",
)
def test_restart_on_the_same_socket_fails_nobody(
    answers: Answers, bake: Bake, prepared: Prepare, tmp_path: Path
) -> None:
    project, variables = prepared(answers)
    service = unit(bake(**answers, deployment="systemd"), "web.service")
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        port = listener.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as taken:
            # Where it would listen by itself, it could not.
            variables = variables | {"PORT": str(taken.getsockname()[1])}
            load = subprocess.Popen(
                [sys.executable, LOAD, str(port), "GET", "/health/live"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(2):
                with passed(project, service, listener, log, **variables) as process:
                    url = f"http://localhost:{port}"
                    assert httpx.get(f"{url}/health/ready", timeout=60).status_code == 200
                    family = psutil.Process(process.pid).children(recursive=True)
                    slow = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                    slow.request("GET", "/probe/slow/", headers={"Host": "localhost"})
                    wait_until_accepted(process, slow.sock)
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(timeout=30) == 0, log.read_text()[-3000:]
                    assert json.load(slow.getresponse()) == {"slept": 3}
                    slow.close()
                    wait_until(
                        lambda family=family: not any(is_running(child.pid) for child in family),
                        "its workers are gone",
                    )
            with passed(project, service, listener, log, **variables):
                outcomes = json.loads(load.communicate()[0])
    assert set(outcomes) == {"200"}, outcomes
    assert outcomes["200"] > 50


def test_uvicorn_answers_once_more_on_what_is_open(
    bake: Bake, prepared: Prepare, tmp_path: Path
) -> None:
    """A new connection, and one that a proxy keeps: a request may be on its way on both."""
    answers = {"interface": "asgi", "realtime": "none", "database": "sqlite"}
    project, variables = prepared(answers)
    service = unit(bake(**answers, deployment="systemd"), "web.service")
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        passed(
            project, service, listener, tmp_path / "log", **variables | {"WEB_CONCURRENCY": "1"}
        ) as process,
    ):
        new, kept, idle = (socket.create_connection(listener.getsockname(), 60) for _ in range(3))
        kept.sendall(request)
        answer = b""
        while not answer.endswith(b"0\r\n\r\n"):
            answer += kept.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        wait_until_accepted(process, new, kept, idle)
        process.send_signal(signal.SIGTERM)
        # The supervisor looks for signals each half second, and a worker each tenth.
        wait_until(lambda: "Shutting down" in (tmp_path / "log").read_text(), "it is told")
        for connection in (new, kept):
            connection.sendall(request)
            # To its end, which is the connection's.
            answer = b"".join(iter(lambda end=connection: end.recv(65536), b""))
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer.lower()
        # Who has nothing to ask does not hold it up.
        assert process.wait(timeout=10) == 0
        assert idle.recv(1) == b""
        for connection in (new, kept, idle):
            connection.close()


# A machine


@dataclass
class Installed:
    """A machine on which a site was installed, and what the script said each time."""

    machine: Machine
    checkout: Path
    project: Project
    said: list[str] = field(default_factory=list)

    def install(self, **variables: str) -> subprocess.CompletedProcess[str]:
        # A release is named after the second.
        time.sleep(1)
        return self.machine.run(
            "/srv/checkout/deploy/systemd/install.sh", DOMAIN, UV_OFFLINE="1", **variables
        )

    @property
    def services(self) -> list[str]:
        return [f"{self.project.slug}-{role}.service" for role in roles_of(self.project)]

    @property
    def release(self) -> str:
        return self.machine.must("readlink", f"/opt/{self.project.slug}/current").strip()

    @property
    def releases(self) -> list[str]:
        return self.machine.must("ls", f"/opt/{self.project.slug}/releases").split()

    @property
    def units(self) -> dict[str, str]:
        folder = self.machine.path("/etc/systemd/system")
        return {path.name: path.read_text() for path in folder.glob(f"{self.project.slug}-*")}

    @property
    def environment(self) -> Path:
        return self.machine.path(f"/etc/{self.project.slug}/environment")

    def status(self, path: str, scheme: str = "https") -> int:
        """Return the status of an answer of nginx."""
        port = {"http": 80, "https": 443}[scheme]
        return int(
            subprocess.run(
                self.machine.at_its_network(
                    "curl", "--silent", "--insecure", "--output", "/dev/null", "--max-time", "30",
                    "--write-out", "%{http_code}", "--resolve", f"{DOMAIN}:{port}:127.0.0.1",
                    f"{scheme}://{DOMAIN}{path}",
                ),
                capture_output=True, text=True,
            ).stdout
        )  # fmt: skip

    def manage(self, *arguments: str) -> str:
        """Run manage.py as the README says."""
        slug = self.project.slug
        return self.machine.must(
            "systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--uid={slug}",
            f"--property=EnvironmentFile=/etc/{slug}/environment",
            f"--working-directory=/opt/{slug}/current",
            f"/opt/{slug}/current/.venv/bin/python", "manage.py", *arguments,
        )  # fmt: skip

    def users(self) -> str:
        return self.manage(
            "shell", "-v", "0", "-c",
            "from django.contrib.auth import get_user_model as m; print(m().objects.count())",
        ).strip()  # fmt: skip

    def assert_serves(self) -> None:
        assert self.status("/accounts/login/") == 200
        if self.project.is_(interface="both"):
            assert self.status("/async/status/") == 200
        states = self.machine.must("systemctl", "is-active", *self.services).split()
        assert states == ["active"] * len(self.services)


@pytest.fixture(scope="module", params=MACHINES, ids=lambda answers: f"{name_of(answers)}-machine")
def site(
    request: pytest.FixtureRequest,
    bake: Bake,
    install: Bake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installed]:
    """A machine to which somebody comes with a project, and does what the script says."""
    # uv has then fetched what the machine, which has no network, installs.
    lock = install(**request.param).path / "uv.lock"
    project = bake(**request.param, deployment="systemd")
    folder = tmp_path_factory.mktemp("machine")
    mounts = {project.path: "/srv/checkout"}
    url = ""
    if project.is_(database="postgresql"):
        server = request.getfixturevalue("postgresql")
        url = server.new_database()
        sockets = next(Path("/tmp").glob(f"tests-postgresql-*/.s.PGSQL.{server.port}")).parent
        sockets.chmod(0o711)
        mounts[sockets] = "/srv/postgresql"
        url = url.replace("127.0.0.1", "%2Fsrv%2Fpostgresql")
    with machine(folder, mounts) as running:
        found = Installed(running, project.path, project)

        def stopped() -> None:
            run = found.install()
            assert run.returncode == 1
            found.said.append(run.stdout)

        stopped()
        shutil.copy(lock, project.path)
        stopped()
        if url:
            assert re.search(r"^DATABASE_URL=$", found.environment.read_text(), re.M)
            found.environment.write_text(
                found.environment.read_text().replace("DATABASE_URL=\n", f"DATABASE_URL={url}\n")
            )
            stopped()
        running.must(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={DOMAIN}",
            "-keyout", "/root/privkey.pem", "-out", "/root/fullchain.pem",
        )  # fmt: skip
        running.must("mkdir", "-p", f"/etc/letsencrypt/live/{DOMAIN}")
        running.must("cp", "/root/privkey.pem", "/root/fullchain.pem",
                     f"/etc/letsencrypt/live/{DOMAIN}")  # fmt: skip
        run = found.install()
        assert run.returncode == 0, run.stdout
        found.said.append(run.stdout)
        # nginx takes a moment to change over.
        wait_until(lambda: found.status("/", "http") == 301, "plain http is sent to https", 20)
        yield found


def test_script_says_what_is_missing_and_goes_on_the_next_time(site: Installed) -> None:
    slug = site.project.slug
    assert "Run 'uv lock'" in site.said[0]
    if site.project.is_(database="postgresql"):
        assert f"Fill in DATABASE_URL in /etc/{slug}/environment" in site.said[1]
    assert f"There is no certificate in /etc/letsencrypt/live/{DOMAIN}" in site.said[-2]
    assert "certbot certonly --webroot -w /var/www/letsencrypt" in site.said[-2]
    assert re.search(
        rf"https://{re.escape(DOMAIN)} serves release \d{{8}}-\d{{6}}\.\n$", site.said[-1]
    )
    for said in site.said:
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Which domain?"),
        (("https://example.com",), "is not a domain"),
        (("Example.com",), "is not a"),
    ],
)
def test_script_wants_one_domain(arguments: tuple[str, ...], sentence: str, bake: Bake) -> None:
    run = bake(deployment="systemd").run("deploy/systemd/install.sh", *arguments)
    assert run.returncode == 1
    assert sentence in run.stdout


def test_domain_has_to_be_named_in_full(site: Installed) -> None:
    right = site.environment.read_text()
    for hosts in (f"my{DOMAIN}", f"{DOMAIN}.net,www.{DOMAIN}", ""):
        site.environment.write_text(right.replace(f"_HOSTS={DOMAIN}\n", f"_HOSTS={hosts}\n"))
        try:
            run = site.install()
        finally:
            site.environment.write_text(right)
        assert run.returncode == 1
        assert f"does not name {DOMAIN}." in run.stdout


def test_two_runs_at_once_are_one_too_many(site: Installed) -> None:
    run = site.machine.run(
        "flock", f"/run/{site.project.slug}-install.lock",
        "/srv/checkout/deploy/systemd/install.sh", DOMAIN,
    )  # fmt: skip
    assert run.returncode == 1
    assert "Another run of this script is active." in run.stdout


def test_it_serves_behind_nginx_and_after_a_reboot(site: Installed) -> None:
    site.assert_serves()
    assert site.status("/", "http") == 301
    # Only nginx asks it.
    assert site.status("/health/ready") == 404
    units = [*site.services, *(name.replace("service", "socket") for name in site.services)]
    assert set(site.machine.must("systemctl", "is-enabled", *units).split()) == {"enabled"}


def test_secret_is_private_and_code_is_nobodys_to_change(site: Installed) -> None:
    slug = site.project.slug
    text = site.environment.read_text()
    assert re.search(r"^DJANGO_SECRET_KEY=\S{60,}$", text, re.M)
    assert f"DJANGO_ALLOWED_HOSTS={DOMAIN}\n" in text
    for path, mode in ((site.environment, 0o600), (site.environment.parent, 0o700)):
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert path.stat().st_uid == 0
    places = [f"/opt/{slug}", f"/etc/systemd/system/{slug}-migrate.service"]
    for place in (*places, *(f"/etc/systemd/system/{name}" for name in site.services)):
        path = site.machine.path(place)
        for each in (path, *path.rglob("*")):
            found = each.lstat()
            assert (found.st_uid, found.st_gid) == (0, 0), each
            assert each.is_symlink() or not found.st_mode & 0o022, each
            # The site's user can read it.
            assert found.st_mode & 0o004, each
    release = site.machine.path(f"/opt/{slug}/{site.release}")
    assert {path.name for path in release.iterdir()} == {
        ".python-version", ".venv", "config", "deploy", "manage.py", "pyproject.toml",
        "serving", "staticfiles", "uv.lock", slug,
    }  # fmt: skip
    assert not (release / "serving" / "tests").exists()
    # Compiled, as it cannot be later.
    assert list(release.glob("config/__pycache__/settings.*.pyc"))
    assert list(release.glob("serving/__pycache__/edge.*.pyc"))
    assert list(release.glob(".venv/lib/python3.*/site-packages/django/__pycache__/*.pyc"))
    assert not list(release.glob(".venv/bin/pytest"))
    state = site.machine.path(f"/var/lib/{slug}")
    assert stat.S_IMODE(state.stat().st_mode) == 0o711
    for each in state.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each


def test_servers_are_confined(site: Installed) -> None:
    for name in site.services:
        pid = site.machine.must("systemctl", "show", "--property=MainPID", "--value", name).strip()
        status = site.machine.must("cat", f"/proc/{pid}/status")
        assert re.search(r"^NoNewPrivs:\t1$", status, re.M)
        assert re.search(r"^Seccomp:\t2$", status, re.M)
        assert set(re.findall(r"^Cap\w+:\t(\w+)$", status, re.M)) == {"0" * 16}
        assert not re.search(r"^Uid:.*\b0\b", status, re.M)
        # Even root, in its view of the machine, writes nowhere but to its own folders.
        for folder, writable in (
            ("/opt", False), ("/etc", False), ("/var/tmp", True), ("/tmp", True), ("/srv", False),
            (f"/var/lib/{site.project.slug}", True), ("/var/log", False),
        ):  # fmt: skip
            run = site.machine.run(
                "nsenter", f"--target={pid}", "--mount", "--root", "touch", f"{folder}/from-within"
            )
            assert (run.returncode == 0) == writable, f"{folder}: {run.stdout}"
        assert not site.machine.path("/var/tmp/from-within").exists()
        limit = site.machine.must("cat", f"/proc/{pid}/limits")
        assert int(re.search(r"^Max open files +(\d+)", limit, re.M)[1]) > 10_000
        # Not a warning of what they would have liked to do.
        log = site.machine.must("journalctl", "--unit", name, "--output=cat", "--no-pager")
        assert not re.search(r'Traceback|Permission|not permitted|"level": "(warning|error)"', log)


def test_new_release_fails_nobody_and_changes_no_data(site: Installed) -> None:
    before = site.environment.read_text(), site.release
    site.manage(
        "shell", "-v", "0", "-c",
        "from django.contrib.auth import get_user_model as m; m().objects.create(username='ada')",
    )  # fmt: skip
    page = site.project.path / site.project.slug / "templates/base.html"
    page.write_text(page.read_text().replace("</body>", "<!-- the new release --></body>"))
    loads = [
        subprocess.Popen(
            site.machine.at_its_network(sys.executable, LOAD, str(port), "GET", "/health/live"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for port in roles_of(site.project).values()
    ]
    run = site.install()
    for load in loads:
        outcomes = json.loads(load.communicate()[0])
        assert set(outcomes) == {"200"}, outcomes
    assert run.returncode == 0, run.stdout
    assert site.environment.read_text() == before[0]
    assert site.users() == "1"
    assert site.release != before[1]
    site.assert_serves()


# By interface: file, what in it is changed to what, and of what the script speaks. One that
# does not answer takes uvicorn half a minute to be sure of; gunicorn says so itself.
BROKEN = {
    "wsgi": [
        ("config/settings.py", "INSTALLED_APPS = [", "INSTALLED_APPS = [[", "is not complete"),
        ("serving/edge.py", "import functools", "import nonsense", "does not answer"),
        ("deploy/systemd/{slug}-web.service", "bin/gunicorn", "bin/nonsense", "does not answer"),
        ("deploy/systemd/nginx.conf", "server {", "serve {", "nginx refuses"),
    ],
    "both": [
        ("uv.lock", "[[package]]", "[[", "is not complete"),
        ("config/settings.py", "DEBUG = environment.DEBUG", "DEBUG = True", "checks or the"),
        ("serving/edge.py", "import functools", "import nonsense", "does not answer"),
        ("deploy/systemd/{slug}-live.service", "User=", "User=not_", "does not answer"),
    ],
}


def test_broken_release_leaves_the_old_one_serving(site: Installed) -> None:
    for file, old, new, sentence in BROKEN[site.project.answers["interface"]]:
        path = site.project.path / file.format(slug=site.project.slug)
        right = path.read_text()
        assert old in right
        before = site.release, site.releases, site.environment.read_text(), site.units
        path.write_text(right.replace(old, new, 1))
        try:
            run = site.install()
        finally:
            path.write_text(right)
        assert run.returncode != 0
        assert sentence in run.stdout, run.stdout
        site.assert_serves()
        site.machine.must("nginx", "-t")
        assert site.environment.read_text() == before[2]
        assert site.units == before[3]
        assert not site.machine.path(f"/opt/{site.project.slug}/next").is_symlink()
        # The site of nginx comes last, when the release serves already.
        assert "nginx" in file or (site.release, site.releases) == before[:2]


def test_going_back_to_the_release_before(site: Installed) -> None:
    older = site.releases[-2]
    folder = f"/opt/{site.project.slug}"
    # Its units are other than those of the newest.
    units = site.machine.path(f"{folder}/releases/{older}/deploy/systemd")
    for path in units.glob("*.service"):
        path.write_text(f"# Of {older}\n{path.read_text()}")
    commands = re.search(
        r"^cd /opt/.*?(?=^```)",
        site.project.read("deploy/README.md"),
        re.M | re.S,
    )[0]
    assert "20260102-030405" in commands
    commands = commands.replace("20260102-030405", older).replace("sudo ", "")
    site.machine.must("bash", "-ec", commands)
    assert site.release == f"releases/{older}"
    loaded = site.machine.must("systemctl", "show", "--property=NeedDaemonReload", *site.services)
    assert set(loaded.split()) == {"NeedDaemonReload=no"}
    assert all(site.units[name].startswith(f"# Of {older}\n") for name in site.services)
    site.assert_serves()


def test_name_of_another_program_is_not_taken_over(bake: Bake, tmp_path: Path) -> None:
    project = bake(project_name="Nginx Two", project_slug="alternatives", deployment="systemd")
    (project.path / "uv.lock").touch()
    with machine(tmp_path, {project.path: "/srv/checkout"}) as running:
        run = running.run("/srv/checkout/deploy/systemd/install.sh", DOMAIN)
        assert run.returncode == 1
        assert "/etc/alternatives is there already" in run.stdout
        assert not running.path("/opt/alternatives").exists()
