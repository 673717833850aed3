"""A site as its visitors have it before them: a proxy, and the servers behind it."""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests import services
from tests.combinations import SITES, Answers
from tests.conftest import Bake
from tests.network import CLIENT, DOMAIN, OwnNetwork, own_network
from tests.project import Project
from tests.proxies.commands import process
from tests.proxies.programs import ORIGIN, proxy_running, status
from tests.services import wait_until
from tests.site import Site

# By the way of deployment that brings their configuration.
PROXIES = {"caddy": "compose", "nginx": "systemd"}
FILES = {"caddy": "deploy/Caddyfile", "nginx": "deploy/systemd/nginx.conf"}
DATABASE = "sqlite"
WAYS = [
    (answers, proxy) for answers in SITES if answers["database"] == DATABASE for proxy in PROXIES
]
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


@dataclass
class Front:
    """A site as its visitors have it before them: a proxy, and the servers behind it."""

    project: Project
    proxy: str
    folder: Path
    network: OwnNetwork
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
    variables: dict[str, str],
    stack: ExitStack,
    project: Project,
    folder: Path,
    https: bool = True,
) -> dict[str, str]:
    """Return the variables of production: a domain, https, and a Redis in this network."""
    variables = variables | {"DJANGO_ALLOWED_HOSTS": DOMAIN, "FORWARDED_ALLOW_IPS": "127.0.0.1"}
    if https:
        del variables["DJANGO_HTTPS"]
    if not project.is_(realtime="none"):
        (folder / "redis").mkdir()
        variables["REDIS_URL"] = stack.enter_context(services.redis(folder / "redis"))
    return variables


def emitted(bake: Bake, answers: Answers, proxy: str) -> str:
    """Return the emitted configuration of a proxy for these answers; "serve" is the one of
    `just serve`."""
    if proxy == "serve":
        return bake(**answers, deployment="none").read("config/Caddyfile")
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
    with own_network() as own, ExitStack() as stack:
        with own.inside():
            variables = variables_for(variables, stack, project, folder, proxy != "serve")
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
