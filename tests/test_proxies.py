"""The emitted configurations of Caddy and nginx, as they are, in front of the emitted servers.

Each site has a network of its own. There the proxies have the ports, addresses, names and
certificates of production, and so nothing in their files has to be changed for a test.
"""

import hashlib
import http.server
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests import services
from tests.combinations import SITES, VALID, Answers, name_of
from tests.conftest import Bake, Prepare
from tests.project import Project, clean_environment
from tests.services import ended, missing, wait_until
from tests.site import Site, next_frame, say

pytestmark = pytest.mark.deploy

# By the way of deployment that brings their configuration.
PROXIES = {"caddy": "compose", "nginx": "systemd"}
FILES = {"caddy": "deploy/Caddyfile", "nginx": "deploy/systemd/nginx.conf"}
DATABASE = "sqlite"
WAYS = [
    (answers, proxy) for answers in SITES if answers["database"] == DATABASE for proxy in PROXIES
]

# The placeholder in nginx.conf. Addresses for examples (RFC 5737), all on this network's lo.
DOMAIN = "example.com"
ORIGIN = f"https://{DOMAIN}"
SITE, CLIENT, OTHER_CLIENT = "192.0.2.1", "192.0.2.10", "192.0.2.11"
# Where the servers listen: the addresses of two replicas in compose, else the ports of the units.
REPLICAS = {
    "web": [("127.0.1.1", 8000), ("127.0.1.2", 8000)],
    "pages": [("127.0.1.1", 8000), ("127.0.1.2", 8000)],
    "live": [("127.0.1.3", 8000)],
}
UNITS = {
    "web": [("127.0.0.1", 8000)],
    "pages": [("127.0.0.1", 8001)],
    "live": [("127.0.0.1", 8002)],
}
COMMANDS = {
    "gunicorn": ["gunicorn", "--config", "config/gunicorn.conf.py"],
    "uvicorn": ["python", "-m", "config.uvicorn_conf"],
}
ROLES = {
    "wsgi": {"web": "gunicorn"},
    "asgi": {"web": "uvicorn"},
    "both": {"pages": "gunicorn", "live": "uvicorn"},
}
# Paths whose answer tells what Django knows of a request, one for each server.
FACTS = {
    "wsgi": ["/probe/facts/"],
    "asgi": ["/probe/facts/"],
    "both": ["/probe/facts/", "/async/facts/"],
}
MEGABYTE = 1_000_000
MAX_BODY = 10 * 1024 * 1024


def run(*command: object, **options: Any) -> str:
    """Run a command that has to succeed, and return its output and errors."""
    done = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=60, **options,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def program(name: str, package: str) -> str:
    return shutil.which(name) or missing(name, package)


def resolve(host: Any, *args: Any, **options: Any) -> Any:
    """What a name server says: the site has the domain, and a name that it does not serve."""
    known = host in (DOMAIN, "stranger.example")
    return getaddrinfo(SITE if known else host, *args, **options)


getaddrinfo = socket.getaddrinfo


@dataclass(frozen=True)
class Network:
    """A network that nobody else is in."""

    handle: int

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread, and what it starts, in the network."""
        with here().open("rb") as home:
            os.setns(self.handle, os.CLONE_NEWNET)
            try:
                with mock.patch("socket.getaddrinfo", resolve):
                    yield
            finally:
                os.setns(home.fileno(), os.CLONE_NEWNET)


def here() -> Path:
    return Path("/proc/thread-self/ns/net")


@contextmanager
def network() -> Iterator[Network]:
    """Make a network with the addresses of the site and of its visitors."""
    if os.geteuid() != 0:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("Only root can make a network of its own.")
    with here().open("rb") as home:
        os.unshare(os.CLONE_NEWNET)
        try:
            made = here().open("rb")
        finally:
            os.setns(home.fileno(), os.CLONE_NEWNET)
    with made:
        found = Network(made.fileno())
        with found.inside():
            run(program("ip", "iproute2"), "link", "set", "lo", "up")
            for address in (SITE, CLIENT, OTHER_CLIENT):
                run("ip", "address", "add", f"{address}/32", "dev", "lo")
        yield found


@contextmanager
def process(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command, with its output added to the file `log`, until the end of the block."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **options
        )
    with ended(started):
        try:
            yield started
        except BaseException:
            print(log.read_text()[-10_000:])
            raise


@dataclass
class Server:
    """One replica of a role of the site, which can be stopped and started."""

    project: Project
    command: list[str]
    host: str
    port: int
    log: Path
    variables: dict[str, str]
    running: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        variables = self.variables | {"HOST": self.host, "PORT": str(self.port)}
        environment = self.project.environment(**variables)
        self.running.enter_context(
            process(self.command, self.log, cwd=self.project.path, env=environment)
        )

    def wait(self) -> None:
        wait_until(
            lambda: status(f"http://{self.host}:{self.port}/health/live") == 200,
            f"{self.command} answers", 60,
        )  # fmt: skip

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask it as its proxy does."""
        headers = {"Host": DOMAIN, "X-Forwarded-Proto": "https"} | options.pop("headers", {})
        return httpx.get(f"http://{self.host}:{self.port}{path}", headers=headers, timeout=20)


def status(url: str, **options: Any) -> int:
    """Return the status of an answer, 0 if there is none."""
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=20, **options).status_code
    return 0


@contextmanager
def proxy_running(
    proxy: str, text: str, folder: Path, names: dict[str, list[str]]
) -> Iterator[ssl.SSLContext]:
    """Run a proxy of which `text` is the configuration; yield what its visitors trust."""
    folder.mkdir()
    start = {"caddy": caddy_command, "nginx": nginx_command}[proxy]
    command, authority = start(text, folder, names)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with process(command, folder / "log", env=proxy_environment(folder)) as started:

        def answers() -> bool:
            assert started.poll() is None, f"{proxy} ended at once"
            with suppress(OSError):
                trust.load_verify_locations(authority)
            return status(ORIGIN, verify=trust) not in (0, 502, 503)

        wait_until(answers, f"{proxy} answers", 60)
        yield trust


def proxy_environment(folder: Path) -> dict[str, str]:
    """Return the environment of compose's Caddy; a certificate authority of its own is for the
    tests, and an example of what an owner may add."""
    return clean_environment() | {
        "PATH": os.environ["PATH"],
        "SITE_ADDRESS": DOMAIN,
        "CADDY_GLOBAL_OPTIONS": "local_certs\nskip_install_trust",
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }


def mounted(mounts: dict[Path, str], command: str) -> list[str]:
    """Return `command` so that it sees folders and files of a test in other places."""
    binds = " && ".join(f"mount --bind '{own}' '{place}'" for own, place in mounts.items())
    return ["unshare", "--mount", "sh", "-c", f"{binds} && exec {command}"]


def caddy_command(text: str, folder: Path, names: dict[str, list[str]]) -> tuple[list[str], Path]:
    caddy = program("caddy", "caddy")
    (folder / "Caddyfile").write_text(text)
    # Docker's name server tells the addresses of all replicas, as this file does.
    (folder / "hosts").write_text(
        "127.0.0.1 localhost\n"
        + "".join(f"{address} {name}\n" for name, known in names.items() for address in known)
    )
    command = f"'{caddy}' run --config '{folder}/Caddyfile'"
    authority = folder / "caddy/pki/authorities/local/root.crt"
    media = folder.parent / "media"
    media.mkdir(exist_ok=True)
    return mounted({folder / "hosts": "/etc/hosts", media: "/media"}, command), authority


def nginx_command(text: str, folder: Path, names: dict[str, list[str]]) -> tuple[list[str], Path]:
    mounts, authority = debian(folder, {"site": text})
    return mounted(mounts, f"{program('nginx', 'nginx')} -g 'daemon off;'"), authority


def debian(folder: Path, sites: dict[str, str]) -> tuple[dict[Path, str], Path]:
    """Make Debian's folders of nginx with these sites enabled; return where each belongs, and
    the certificate of the site."""
    program("nginx", "nginx")
    etc = folder / "etc"
    shutil.copytree("/etc/nginx", etc / "nginx", symlinks=True)
    for name in ("passwd", "group", "nsswitch.conf", "ssl/openssl.cnf"):
        (etc / name).parent.mkdir(exist_ok=True)
        shutil.copy(f"/etc/{name}", etc / name)
    enabled = etc / "nginx/sites-enabled"
    shutil.rmtree(enabled)
    enabled.mkdir()
    for name, text in sites.items():
        (enabled / name).write_text(text)
    live = etc / "letsencrypt/live" / DOMAIN
    live.mkdir(parents=True)
    run(
        program("openssl", "openssl"), "req", "-x509", "-nodes", "-days", "2",
        "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-keyout", live / "privkey.pem", "-out", live / "fullchain.pem",
        "-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN}",
    )  # fmt: skip
    challenges = folder / "www/letsencrypt/.well-known/acme-challenge"
    challenges.mkdir(parents=True)
    (challenges / "token").write_text("proof")
    mounts = {etc: "/etc", folder / "www": "/var/www"}
    for name, place in (("run", "/run"), ("logs", "/var/log/nginx"), ("lib", "/var/lib")):
        (folder / name).mkdir()
        mounts[folder / name] = place
    (folder / "lib/nginx").mkdir()
    media = folder.parent / "media"
    if media.exists():
        place = re.findall(r"alias (/\S+)/;", sites["site"])[0]
        (folder / "lib" / Path(place).relative_to("/var/lib")).mkdir(parents=True)
        mounts[media] = place
    return mounts, live / "fullchain.pem"


@dataclass
class Front:
    """A site as its visitors have it before them: a proxy, and the servers behind it."""

    project: Project
    proxy: str
    folder: Path
    network: Network
    trust: ssl.SSLContext
    servers: list[Server]

    @property
    def interface(self) -> str:
        return self.project.answers["interface"]

    @contextmanager
    def browser(
        self, user: str | None = None, address: str = CLIENT, **options: Any
    ) -> Iterator[httpx.Client]:
        """Yield a client at an address, logged in through the form if `user` is given."""
        transport = httpx.HTTPTransport(verify=self.trust, local_address=address)
        with httpx.Client(
            transport=transport, base_url=ORIGIN, timeout=30, headers={"Origin": ORIGIN}, **options
        ) as client:
            if user:
                fields = {"username": user, "password": f"password-of-{user}"}
                entered = Site.submit(client, "/accounts/login/", **fields)
                assert entered.status_code == 302, entered.text
            yield client

    def get(self, path: str, **options: Any) -> httpx.Response:
        with self.browser() as client:
            return client.get(path, **options)

    def socket(self, cookies: str = "", origin: str = ORIGIN) -> ClientConnection:
        return connect(
            f"wss://{DOMAIN}/ws/chat/lobby/",
            ssl=self.trust,
            origin=origin,  # type: ignore[arg-type]
            additional_headers={"Cookie": cookies},
            source_address=(CLIENT, 0),
            open_timeout=20,
            proxy=None,
        )


def cookies_of(client: httpx.Client) -> str:
    return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def variables_for(
    variables: dict[str, str], stack: ExitStack, project: Project, folder: Path
) -> dict[str, str]:
    """Return the variables of production: a domain, https, and a Redis in this network."""
    variables = variables | {"DJANGO_ALLOWED_HOSTS": DOMAIN, "FORWARDED_ALLOW_IPS": "127.0.0.1"}
    del variables["DJANGO_HTTPS"]
    if not project.is_(realtime="none"):
        (folder / "redis").mkdir()
        variables["REDIS_URL"] = stack.enter_context(services.redis(folder / "redis"))
    return variables


def emitted(bake: Bake, answers: Answers, proxy: str) -> str:
    """Return the emitted configuration of a proxy for these answers."""
    return bake(**answers, deployment=PROXIES[proxy]).read(FILES[proxy])


@contextmanager
def standing(
    project: Project,
    variables: dict[str, str],
    proxy: str,
    text: str,
    folder: Path,
    commands: dict[str, list[str]] = COMMANDS,
) -> Iterator[Front]:
    """Start a site, and before it a proxy of which `text` is the configuration."""
    roles = ROLES[project.answers["interface"]]
    places = REPLICAS if proxy == "caddy" else UNITS
    with network() as own, ExitStack() as stack:
        with own.inside():
            variables = variables_for(variables, stack, project, folder)
            variables["WEB_CONCURRENCY"] = "1" if proxy == "caddy" else "2"
            (folder / "media").mkdir()
            variables["MEDIA_ROOT"] = str(folder / "media")
            servers = [
                Server(project, commands[command], host, port, folder / f"{role}-{host}", variables)
                for role, command in roles.items()
                for host, port in places[role]
                # A second replica takes time, and what is live has nothing of it.
                if host != "127.0.1.2" or project.is_(realtime="none")
            ]
            for server in servers:
                stack.enter_context(server.running)
                server.start()
            for server in servers:
                server.wait()
            hosts = {server.host for server in servers}
            names = {role: [host for host, _ in places[role] if host in hosts] for role in roles}
            trust = stack.enter_context(proxy_running(proxy, text, folder / proxy, names))
        yield Front(project, proxy, folder, own, trust, servers)


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{name_of(way[0])}-{way[1]}")
def started(
    request: pytest.FixtureRequest,
    prepared: Prepare,
    bake: Bake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Front]:
    """Each combination in turn, behind each proxy, with the defaults of production."""
    answers, proxy = request.param
    project, variables = prepared(answers)
    text, folder = emitted(bake, answers, proxy), tmp_path_factory.mktemp(proxy)
    with standing(project, variables, proxy, text, folder) as front:
        yield front


@pytest.fixture
def front(started: Front) -> Iterator[Front]:
    """The same, with the test in its network."""
    with started.network.inside():
        yield started


def test_plain_http_is_redirected_and_browsers_remember(front: Front) -> None:
    redirect = front.get(f"http://{DOMAIN}/x/?y=1")
    page = front.get("/")

    assert redirect.status_code in (301, 308)
    assert redirect.headers["Location"] == f"{ORIGIN}/x/?y=1"
    assert page.status_code == 200
    assert "max-age=31536000" in page.headers["Strict-Transport-Security"]
    if front.proxy == "nginx":
        # What has to be there before there is a certificate.
        challenge = front.get(f"http://{DOMAIN}/.well-known/acme-challenge/token")
        assert challenge.text == "proof"


def shake_hands(name: str | None) -> str | None:
    """Ask for an encrypted connection to `name`; return the protocol that is agreed on."""
    any_certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    any_certificate.check_hostname, any_certificate.verify_mode = False, ssl.CERT_NONE
    any_certificate.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((SITE, 443), timeout=20) as connection,
        any_certificate.wrap_socket(connection, server_hostname=name) as encrypted,
    ):
        return encrypted.selected_alpn_protocol()


def test_http_2_is_offered(front: Front) -> None:
    assert shake_hands(DOMAIN) == "h2"


def test_strangers_names_are_refused(front: Front) -> None:
    stranger = "stranger.example"

    for name in (stranger, None):
        with pytest.raises(ssl.SSLError):
            shake_hands(name)
    # A certificate for one name, and the Host header of another.
    with front.browser() as client, pytest.raises(httpx.TransportError):
        client.get("/", headers={"Host": stranger})
    # Over plain http there is no answer, or the advice to be refused over https.
    with front.browser() as client, suppress(httpx.RemoteProtocolError):
        answer = client.get(f"http://{stranger}/")
        assert (answer.status_code, answer.content) == (308, b"")
        assert answer.headers["Location"] == f"https://{stranger}/"


def test_pages_and_live_paths_have_their_servers(front: Front) -> None:
    interface = {"wsgi": "WSGI", "asgi": "ASGI", "both": "WSGI"}[front.interface]

    assert f'<dd id="interface">{interface}</dd>' in front.get("/").text
    if front.interface == "both":
        assert front.get("/async/status/").json()["interface"] == "ASGI"
        assert front.get("/probe/facts/").json()["pid"] != front.get("/async/facts/").json()["pid"]


def test_client_is_known_and_what_it_claims_is_not_believed(front: Front) -> None:
    forged = {
        "X-Forwarded-For": "203.0.113.9",
        "X_Forwarded_For": "203.0.113.9",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "stranger.example",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9;proto=http",
        "X-Request-ID": "forged",
    }
    for path in FACTS[front.interface]:
        for headers in ({}, forged):
            answer = front.get(path, headers=headers)
            facts = answer.json()
            assert facts["address"] == CLIENT
            assert facts["secure"] is True
            assert facts["forwarded"] == []
            # The proxy's own, which has at most hyphens in it.
            assert re.fullmatch(r"[0-9a-f-]{32,36}", facts["request_id"])
            assert answer.headers["X-Request-ID"] == facts["request_id"]


def test_readiness_is_told_inside_only(front: Front) -> None:
    assert front.get("/health/live").status_code == 200
    assert front.get("/health/ready").status_code == 404
    assert front.get("/health/%72eady").status_code == 404
    assert front.servers[0].get("/health/ready").status_code == 200


def test_log_in_works_and_its_cookies_are_for_https_only(front: Front) -> None:
    with front.browser("ada") as client:
        assert client.get("/admin/").status_code == 200
        cookies = {cookie.name: cookie for cookie in client.cookies.jar}
        assert {"sessionid", "csrftoken"} <= set(cookies)
        assert all(cookie.secure for cookie in cookies.values())
        for origin in ("https://stranger.example", f"http://{DOMAIN}"):
            client.headers["Origin"] = origin
            assert Site.submit(client, "/admin/password_change/").status_code == 403


def test_pages_are_compressed(front: Front) -> None:
    plain = front.get("/", headers={"Accept-Encoding": "identity"})
    packed = front.get("/", headers={"Accept-Encoding": "gzip"})

    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert packed.text.endswith("</html>\n")


def test_static_files_come_as_the_server_sends_them(front: Front) -> None:
    login = front.get("/admin/login/").text
    path = next(iter(re.findall(r'href="(/static/[^"]+\.css)"', login)))
    names = ("Cache-Control", "Content-Encoding", "Content-Type", "ETag", "Last-Modified")

    for encoding in ("gzip", "identity"):
        accept = {"Accept-Encoding": encoding}
        sent = front.servers[0].get(path, headers=accept)
        got = front.get(path, headers=accept)
        assert got.status_code == 200
        assert {n: got.headers.get(n) for n in names} == {n: sent.headers.get(n) for n in names}
        assert got.content == sent.content
        assert "immutable" in got.headers["Cache-Control"]
        etag = got.headers["ETag"]
        known = front.get(path, headers=accept | {"If-None-Match": etag})
        assert (known.status_code, known.content) == (304, b"")
        assert known.headers["ETag"] == etag
    assert (
        front.get(path, headers={"Accept-Encoding": "gzip"}).headers["Content-Encoding"] == "gzip"
    )
    part = front.get(path, headers={"Accept-Encoding": "identity", "Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, got.content[:10])


def in_pieces(content: bytes) -> Iterator[bytes]:
    """Give a body so that its length is not known before."""
    for start in range(0, len(content), 64 * 1024):
        yield content[start : start + 64 * 1024]


def bodies(*sizes: int) -> Iterator[tuple[bytes, bytes | Iterator[bytes]]]:
    """Give contents, and each twice as a body: its length told before, and not."""
    for size in sizes:
        content = os.urandom(size)
        yield content, content
        yield content, in_pieces(content)


def test_uploads_arrive_whole_up_to_the_limit(front: Front) -> None:
    for content, body in bodies(1000, MAX_BODY):
        with front.browser() as client:
            answer = client.post("/probe/upload/", content=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()


def test_uploads_over_the_limit_are_told_so(front: Front) -> None:
    paths = ["/probe/upload/", "/async/none/"]
    for path in paths[: 1 + (front.interface == "both")]:
        for _, body in bodies(MAX_BODY + 1, MAX_BODY + 5_000_000, 10 * MAX_BODY):
            with front.browser() as client:
                refusal = client.post(path, content=body)
            assert refusal.status_code == 413
            assert "<h1>Too large</h1>" in refusal.text
            assert "This site takes" in refusal.text
            if front.proxy == "caddy":
                request_id = refusal.headers["X-Request-ID"]

                # The line is written when the answer is on its way.
                def lines(request_id: str = request_id) -> list[str]:
                    logs = "".join(server.log.read_text() for server in front.servers)
                    return [line for line in logs.splitlines() if request_id in line]

                wait_until(lines, "the refusal is logged")
                [line] = lines()
                assert '"refused": "body larger than MAX_BODY"' in line
    if front.proxy == "nginx":
        assert "too large body" in (front.folder / "nginx/logs/error.log").read_text()


def test_answer_that_comes_before_the_body_was_sent_arrives(front: Front) -> None:
    content = bytes(9 * MEGABYTE)
    for path, expected in (("/accounts/login/", 403), ("/nothing/", 404)):
        for _ in range(5):
            with front.browser() as client:
                answer = client.post(path, content=content)
            assert answer.status_code == expected
            assert "</h1>" in answer.text


def test_file_that_was_uploaded_is_fetched_and_is_no_page_of_this_site(front: Front) -> None:
    page = b"<script>alert(1)</script>"
    with front.browser() as client:
        for kind in ("html", "js", "mjs", "css", "png"):
            address = client.post(f"/probe/keep/?kind={kind}", files={"file": ("x", page)}).text
            assert re.fullmatch(rf"/media/new/page\w*\.{kind}", address)
            fetched = client.get(address)
            assert (fetched.status_code, fetched.content) == (200, page)
            assert fetched.headers["Content-Disposition"] == "attachment"
            assert fetched.headers["X-Content-Type-Options"] == "nosniff"
            # Browsers run no script and use no style that is not called one.
            assert not re.search("script|css", fetched.headers["Content-Type"])
        assert fetched.headers["Content-Type"] == "image/png"
        folder = client.get("/media/new/")

    assert folder.status_code in (403, 404)
    assert front.get("/media/none").status_code == 404
    assert front.get("/media/../db.sqlite3").status_code == 404
    assert front.get("/media/%2e%2e/db.sqlite3").status_code in (400, 404)
    assert front.get("/media../db.sqlite3").status_code == 404


def test_slow_uploads_hold_up_nobody(front: Front) -> None:
    with ExitStack() as stack:
        # Many more than there are threads.
        for _ in range(30):
            connection = socket.create_connection((SITE, 443), timeout=20)
            upload = stack.enter_context(
                front.trust.wrap_socket(connection, server_hostname=DOMAIN)
            )
            upload.sendall(
                f"POST /probe/upload/ HTTP/1.1\r\nHost: {DOMAIN}\r\n"
                "Content-Length: 100000\r\n\r\nand so on".encode()
            )
        for _ in range(4):
            assert front.get("/probe/query/").status_code == 200


def test_headers_are_bounded(front: Front) -> None:
    small, large = ({f"X-{n}": "x" * 3500 for n in range(count)} for count in (4, 6))

    assert front.get("/", headers=small).status_code == 200
    refusal = front.get("/", headers=large)
    # By the server, in the same words behind every proxy.
    assert refusal.status_code == 431
    assert "Request Header Fields Too Large" in refusal.text


def talk(socket: ClientConnection) -> None:
    """Say something, and hear it."""
    text = uuid.uuid4().hex
    say(socket, text)
    while next_frame(socket, "message")["text"] != text:
        pass


def test_socket_opens_for_this_sites_pages_only(front: Front) -> None:
    if not front.project.is_(realtime="channels"):
        return
    with front.browser("ada") as client:
        cookies = cookies_of(client)

    with front.socket(cookies) as socket:
        talk(socket)
    for origin in ("https://stranger.example", "null"):
        with pytest.raises(InvalidStatus) as refused:
            front.socket(cookies, origin)
        assert refused.value.response.status_code == 403


def test_events_arrive_at_once(front: Front) -> None:
    """Sooner than the next heartbeat, which would push out what somebody had held back."""
    if not front.project.is_(realtime="sse"):
        return
    with front.browser("ada") as client:
        for number, encoding in enumerate(("identity", "gzip", "gzip, deflate, br, zstd")):
            headers = {"Accept-Encoding": encoding}
            with client.stream("GET", "/events/", headers=headers, timeout=12) as stream:
                assert stream.status_code == 200
                assert stream.headers["Content-Type"] == "text/event-stream"
                assert stream.headers.get("Content-Encoding", "identity") == "identity"
                lines = stream.iter_lines()
                assert next(lines).startswith("retry:")
                Site.submit(client, "/notifications/", text=f"Event {number}")
                assert any(f"Event {number}" in line for line in lines)
        # As browsers have it.
        curl = [
            program("curl", "curl"), "--http2", "--silent", "--no-buffer", "--insecure",
            "--resolve", f"{DOMAIN}:443:{SITE}", "--max-time", "12", "--compressed",
            "--header", f"Cookie: {cookies_of(client)}", "--dump-header", "-", f"{ORIGIN}/events/",
        ]  # fmt: skip
        with subprocess.Popen(curl, stdout=subprocess.PIPE, text=True) as browser:
            assert browser.stdout
            assert browser.stdout.readline().startswith("HTTP/2 200")
            assert any(line.startswith("retry:") for line in browser.stdout)
            Site.submit(client, "/notifications/", text="Event over HTTP/2")
            assert any("Event over HTTP/2" in line for line in browser.stdout)
            browser.kill()


def test_stream_of_ones_own_arrives_piece_by_piece(front: Front) -> None:
    # nginx has to be told so by the stream, but on the live paths.
    if front.interface == "wsgi" or (front.interface, front.proxy) == ("asgi", "nginx"):
        return
    headers = {"Accept-Encoding": "gzip"}
    with (
        front.browser() as client,
        client.stream("GET", "/async/stream/", headers=headers) as stream,
    ):
        pieces = stream.iter_text()
        assert [next(pieces) for _ in range(3)] == ["2\n"] * 3


def test_attempts_to_log_in_are_limited_and_nothing_else_is(front: Front) -> None:
    if front.proxy != "nginx":
        return
    site = (front.folder / "nginx/etc/nginx/sites-enabled/site").read_text()
    burst = int(re.search(r"burst=(\d+)", site)[1])  # type: ignore[index]
    pause = 60 / int(re.search(r"rate=(\d+)r/m", site)[1])  # type: ignore[index]
    forms = ("/accounts/login/", "/admin/login/", "/accounts/password_reset/")
    with front.browser(address=OTHER_CLIENT) as client:
        started = time.monotonic()
        # Without a token each is a 403 of Django's.
        found = [client.post(forms[n % 3]).status_code for n in range(2 * burst + 6)]
        assert found[: burst + 1] == [403] * (burst + 1)
        assert found.count(429) == len(found) - found.count(403)
        # Meanwhile one came in with each pause.
        assert found.count(403) <= burst + 2 + (time.monotonic() - started) / pause
        for path in forms:
            assert client.get(path).status_code == 200
        assert client.post("/probe/upload/").status_code == 200
    # Nobody else is held up.
    with front.browser() as client:
        assert client.post("/accounts/login/").status_code == 403


def test_replicas_are_replaced_one_by_one_and_no_request_fails(front: Front) -> None:
    # What is live adds nothing to pages but time.
    if front.proxy != "caddy" or not front.project.is_(realtime="none"):
        return
    ended = threading.Event()

    def visit(_: int) -> list[int]:
        found = []
        with front.browser() as client:
            while not ended.is_set():
                found.append(client.get("/probe/query/").status_code)
        return found

    with ThreadPoolExecutor(4) as pool:
        visits = [pool.submit(visit, number) for number in range(4)]
        try:
            for server in front.servers[:2]:
                server.running.close()
                server.start()
                server.wait()
        finally:
            ended.set()
        found = [code for future in visits for code in future.result()]
    assert len(found) > 20
    assert set(found) == {200}


# Seconds in a copy of the files, for 60 and 3600; and between heartbeats, for 15 and 20.
LIMIT, BEAT = 3, 0.5
HURRIED = {
    "uvicorn": [
        "python", "-c",
        "from config import uvicorn_conf as c\n"
        f"c.OPTIONS['ws_ping_interval'] = {BEAT}\n"
        "c.main()",
    ]
}  # fmt: skip
LIVE = [way for way in WAYS if way[0]["interface"] == "asgi" and way[0]["realtime"] != "none"]


@pytest.mark.parametrize("way", LIVE, ids=[f"{name_of(way[0])}-{way[1]}" for way in LIVE])
def test_idle_streams_and_sockets_outlive_every_limit(
    way: tuple[Answers, str], prepared: Prepare, bake: Bake, tmp_path: Path
) -> None:
    """In a hurry: all limits of the proxy and all heartbeats are shorter here."""
    answers, proxy = way
    project, variables = prepared(answers)
    if project.is_(realtime="sse"):
        variables = variables | {"PROBE_HEARTBEAT": str(BEAT)}
    text, count = re.subn(r"(?<=[a-z] )(60|3600)s\b", f"{LIMIT}s", emitted(bake, answers, proxy))
    assert count >= 3
    with (
        standing(project, variables, proxy, text, tmp_path, HURRIED) as front,
        front.network.inside(),
        front.browser("ada") as client,
    ):
        if project.is_(realtime="channels"):
            with front.socket(cookies_of(client)) as socket:
                time.sleep(2.5 * LIMIT)
                talk(socket)
            return
        with client.stream("GET", "/events/") as stream:
            lines, ends = stream.iter_lines(), time.monotonic() + 2.5 * LIMIT
            while time.monotonic() < ends:
                assert "event" not in next(lines) or next(lines)
            Site.submit(client, "/notifications/", text="Still here")
            assert any("Still here" in line for line in lines)


class Fragile(http.server.BaseHTTPRequestHandler):
    """A server that reads a request, and may be gone before it answers."""

    received: list[tuple[str, str]]
    failures: int

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.received.append((self.command, self.path))
        if type(self).failures:
            type(self).failures -= 1
            return
        self.send_response(200)
        body = self.headers["X-Forwarded-Proto"].encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def fragile_server() -> Iterator[type[Fragile]]:
    Fragile.received, Fragile.failures = [], 0
    with http.server.ThreadingHTTPServer(("127.0.1.1", 8000), Fragile) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Fragile
        finally:
            server.shutdown()
            thread.join()


def test_requests_wait_for_a_server_and_no_post_is_sent_twice(bake: Bake, tmp_path: Path) -> None:
    text = emitted(bake, WAYS[0][0], "caddy")
    with network() as own, own.inside(), ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        fragile = server.enter_context(fragile_server())
        names = {"web": ["127.0.1.1"]}
        trust = stack.enter_context(proxy_running("caddy", text, tmp_path / "caddy", names))
        client = stack.enter_context(httpx.Client(verify=trust, base_url=ORIGIN, timeout=30))

        fragile.received.clear()
        fragile.failures = 1
        assert client.post("/post/", content=b"once").status_code == 502
        assert fragile.received == [("POST", "/post/")]
        fragile.failures = 1
        assert client.get("/get/").status_code == 200
        assert fragile.received[1:] == [("GET", "/get/")] * 2

        # Nobody is there: whatever it is waits, as it has reached no one.
        server.close()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.post, "/wait/", content=b"once")
            time.sleep(1)
            assert not waiting.done()
            with fragile_server() as fragile:
                assert waiting.result(timeout=30).status_code == 200
                assert fragile.received == [("POST", "/wait/")]


def test_caddy_serves_localhost_without_https_if_told_so(bake: Bake, tmp_path: Path) -> None:
    text = emitted(bake, WAYS[0][0], "caddy")
    command, _ = caddy_command(text, tmp_path, {"web": ["127.0.1.1"]})
    plain = proxy_environment(tmp_path) | {
        "SITE_ADDRESS": "http://localhost",
        "CADDY_GLOBAL_OPTIONS": "",
    }
    with (
        network() as own,
        own.inside(),
        fragile_server(),
        process(command, tmp_path / "log", env=plain),
    ):
        wait_until(lambda: status("http://localhost/") == 200, "Caddy answers")
        assert httpx.get("http://localhost/").text == "http"


COMPOSED, UNCONTAINED = (
    [answers for answers in VALID if answers["deployment"] == deployment]
    for deployment in PROXIES.values()
)


def test_caddy_accepts_its_file_and_would_not_format_it_otherwise(
    bake: Bake, tmp_path: Path
) -> None:
    caddy, environment = program("caddy", "caddy"), proxy_environment(tmp_path)
    for answers in COMPOSED:
        file = bake(**answers).path / FILES["caddy"]
        said = run(caddy, "validate", "--config", file, env=environment)
        assert "Valid configuration" in said
        assert '"level":"warn"' not in said
        assert run(caddy, "fmt", file) == file.read_text()


def test_nginx_accepts_its_file(bake: Bake, tmp_path: Path) -> None:
    for number, answers in enumerate(UNCONTAINED):
        sites = {"site": bake(**answers).read(FILES["nginx"])}
        said = judged_by_nginx(tmp_path / str(number), sites)
        assert "test is successful" in said
        assert "warn" not in said


def test_two_sites_stand_beside_each_other_and_debians_own(bake: Bake, tmp_path: Path) -> None:
    answers = {"interface": "both", "realtime": "sse", "deployment": "systemd"}
    sites = {
        slug: bake(**answers, project_slug=slug).read(FILES["nginx"]).replace(DOMAIN, domain)
        for slug, domain in (("my_site", DOMAIN), ("other_site", "other.example"))
    }
    default = Path("/etc/nginx/sites-available/default")
    if default.exists():
        sites["default"] = default.read_text()

    said = judged_by_nginx(tmp_path / "nginx", sites)

    assert "test is successful" in said
    assert "warn" not in said


def judged_by_nginx(folder: Path, sites: dict[str, str]) -> str:
    folder.mkdir()
    mounts, certificate = debian(folder, sites)
    live = certificate.parent
    (live.parent / "other.example").symlink_to(live.name)
    with network() as own, own.inside():
        return run(*mounted(mounts, "nginx -t"))
