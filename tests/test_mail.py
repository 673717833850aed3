"""Mails of the production settings, sent to real SMTP servers: what EMAIL_URL says is what happens.

What the client sends is looked at on the wire. The servers take a password and a mail in clear as
well: a site that promised to encrypt them must not even try.
"""

import base64
import functools
import re
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from tests.conftest import Bake
from tests.project import PRODUCTION, Project
from tests.services import free_port

pytestmark = [
    pytest.mark.project,
    # The server's own, about a password that it takes in clear.
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS"),
]

USER, PASSWORD = "corner@example.com", "p@ss:wo/rd?#%41"
LOGIN = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
DOCUMENTED = re.compile(r"\bsmtp[a-z+]*://[^\s`\"']*[\w/]")


class Server:
    """An SMTP server, with the mails it got, who logged in, and every byte that came to it."""

    def __init__(self, **options: Any) -> None:
        self.mails: list[bytes] = []
        self.logins: list[tuple[str, str]] = []
        self.wire = bytearray()
        self.controller = Controller(
            self, hostname="127.0.0.1", port=free_port(), authenticator=self.log_in,
            auth_require_tls=False, **options,
        )  # fmt: skip

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(envelope.content)
        return "250 OK"

    def log_in(self, server: Any, session: Any, envelope: Any, how: str, what: Any) -> AuthResult:
        self.logins.append((what.login.decode(), what.password.decode()))
        return AuthResult(success=self.logins[-1] == (USER, PASSWORD))

    def saw(self, text: str) -> bool:
        """Return whether `text` came in clear, as it is or as SMTP writes a password."""
        forms = [text.encode(), base64.b64encode(text.encode()),
                 base64.b64encode(f"\0{USER}\0{text}".encode())]  # fmt: skip
        return any(form in self.wire for form in forms)


@contextmanager
def recorded(server: Server) -> Iterator[int]:
    """Yield a port that leads to `server`, whose `wire` gets what clients send there."""

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", server.controller.port)) as there:
                back = threading.Thread(target=pump, args=(there, self.request, bytearray()))
                back.start()
                pump(self.request, there, server.wire)
                back.join()

    def pump(source: socket.socket, target: socket.socket, copy: bytearray) -> None:
        with suppress(OSError):  # one side is gone
            while data := source.recv(65536):
                copy += data
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection) as relay:
        thread = threading.Thread(target=relay.serve_forever)
        thread.start()
        try:
            yield relay.server_address[1]
        finally:
            relay.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost with its key, which is its own authority."""
    file = tmp_path_factory.mktemp("certificate") / "localhost.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec",
         "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", file, "-out", f"{file}.public"],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with file.open("a") as both:
        both.write(Path(f"{file}.public").read_text())
    return file


@pytest.fixture
def serve(certificate: Path) -> Iterator[Callable[[str], tuple[Server, int]]]:
    """Return a function that starts a server: `starttls`, `tls` from the first byte, or `plain`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    options: dict[str, dict[str, Any]] = {
        "starttls": {"tls_context": context}, "tls": {"ssl_context": context}, "plain": {},
    }  # fmt: skip
    with ExitStack() as stack:

        def serve(kind: str) -> tuple[Server, int]:
            server = Server(**options[kind])
            server.controller.start()
            stack.callback(server.controller.stop)
            return server, stack.enter_context(recorded(server))

        yield serve


@pytest.fixture
def site(install: Bake) -> Project:
    return install()


def send(site: Project, url: str, trusted: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Send a mail with the settings of production, which trust the authority `trusted`."""
    trust = {"SSL_CERT_FILE": str(trusted)} if trusted else {}
    return site.run(
        "python", "manage.py", "sendtestemail", "ada@example.com",
        **PRODUCTION, **trust, DJANGO_DEBUG="false", EMAIL_URL=url,
    )  # fmt: skip


ENCRYPTED = pytest.mark.parametrize(
    ("scheme", "kind"), [("smtp+tls", "starttls"), ("smtps", "tls")]
)


@ENCRYPTED
def test_password_and_mail_are_encrypted_where_the_url_says_so(
    site: Project, serve: Any, certificate: Path, scheme: str, kind: str
) -> None:
    server, port = serve(kind)

    run = send(site, f"{scheme}://{LOGIN}@localhost:{port}", certificate)

    assert run.returncode == 0, run.stdout
    assert server.logins == [(USER, PASSWORD)]
    assert b"ada@example.com" in server.mails[0]
    assert not server.saw(PASSWORD)
    assert not server.saw("ada@example.com")


@pytest.mark.parametrize(
    ("scheme", "kind"), [("smtp+tls", "plain"), ("smtps", "plain"), ("smtps", "starttls")]
)
def test_nothing_is_sent_where_encryption_is_not_offered(
    site: Project, serve: Any, certificate: Path, scheme: str, kind: str
) -> None:
    server, port = serve(kind)

    run = send(site, f"{scheme}://{LOGIN}@localhost:{port}", certificate)

    assert run.returncode != 0
    assert "STARTTLS extension not supported" in run.stdout or "SSLError" in run.stdout
    assert (server.logins, server.mails) == ([], [])
    assert not server.saw(PASSWORD)
    assert not server.saw("ada@example.com")


@ENCRYPTED
def test_nothing_is_sent_to_a_server_whose_certificate_nobody_vouches_for(
    site: Project, serve: Any, scheme: str, kind: str
) -> None:
    server, port = serve(kind)

    run = send(site, f"{scheme}://{LOGIN}@localhost:{port}")

    assert run.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in run.stdout
    assert (server.logins, server.mails) == ([], [])


@pytest.mark.parametrize("login", ["", f"{LOGIN}@"])
def test_a_server_of_this_machine_gets_mails_in_clear(
    site: Project, serve: Any, login: str
) -> None:
    server, port = serve("plain")

    run = send(site, f"smtp://{login}localhost:{port}")

    assert run.returncode == 0, run.stdout
    assert server.logins == ([(USER, PASSWORD)] if login else [])
    assert server.saw("ada@example.com")


def test_every_documented_value_sends_as_it_says(
    bake: Bake, site: Project, serve: Any, certificate: Path
) -> None:
    """Those of every README, example and sentence, with a server of these tests as the host."""
    projects = [
        bake(deployment=deployment, database="postgresql")
        for deployment in ("compose", "kubernetes", "systemd", "none")
    ]
    found = {
        (name, value)
        for project in projects
        for name in project.files()
        if not name.startswith("tests/")
        for value in DOCUMENTED.findall(project.read(name))
    }
    assert {name for name, _ in found} >= {
        "README.md", "deploy/README.md", "deploy/.env.example", "deploy/systemd/environment",
        "config/environment.py",
    }  # fmt: skip
    start = functools.cache(serve)
    encrypted = 0
    for value in {value for _, value in found}:
        url = urlsplit(value)
        kind = {"smtp": "plain", "smtp+tls": "starttls", "smtps": "tls"}[url.scheme]
        server, port = start(kind)
        login = f"{LOGIN}@" if url.username else ""

        run = send(site, f"{url.scheme}://{login}localhost:{port}", certificate)

        assert run.returncode == 0, (value, run.stdout)
        assert server.logins[-1:] == ([(USER, PASSWORD)] if url.username else [])
        assert server.saw("ada@example.com") == (kind == "plain"), value
        encrypted += kind != "plain"
    assert encrypted >= 1
