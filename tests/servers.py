"""Other servers than the emitted ones, each with the command that somebody would type, and the
table in docs/servers.md, which `--write-tables` writes of what test_servers.py sees."""

import json
import os
from dataclasses import dataclass, field

import pytest

from tests.combinations import TEMPLATE

FILE = TEMPLATE / "docs" / "servers.md"
BEGIN = "<!-- begin: written by `uv run pytest -n0 -m serve -k servers --write-tables` -->"
END = "<!-- end -->"
HEAD = ["server", "command", "works", "differs"]


@dataclass(frozen=True)
class Server:
    """A server, how it is started, and in what it differs from the emitted ones."""

    name: str
    interface: str
    command: str
    # What is installed, where the project does not have it.
    package: str = ""
    # A program that this takes, and the Debian packages that bring it.
    needs: tuple[str, str] | None = None
    # Whether it refuses to serve as root.
    never_root: bool = False
    # Whether it has worker processes, and starts another one for one that died.
    supervises: bool = True
    # By what is looked at, the names of SENTENCES that are true of it.
    differs: dict[str, set[str]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.interface}-{self.name.replace(' ', '-')}"

    def words(self, port: int) -> list[str]:
        """Return its command, on a port of loopback. A word with a blank is written with ~."""
        words = self.command.replace("8000", str(port)).split()
        # Somebody else in their own eyes, who may read what root may: the project, its Python.
        other = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
        prefix = other if self.never_root and os.geteuid() == 0 else []
        return prefix + [word.replace("~", " ") for word in words]


SENTENCES = {
    "new id": "a request has a new id, not that of the proxy: uvicorn has rewritten the client's "
    "address, and nobody knows of the proxy any more (`--no-proxy-headers` leaves it to the site)",
    "no id": "the answer to a handshake has no `X-Request-ID`",
    "own words": "Apache writes its own words before each line of the log",
    "411": "a body whose length is not told (chunked) is answered with 411",
    "large frames": "a frame of more than 64 KiB does not close its socket with 1009",
    "cut off": "a request under way is cut off",
    "no 1012": "sockets end without a close code",
    "alone": "one process; whatever starts it has to start it again",
}

# What test_servers.py looks at.
LOOKED_AT = {"wsgi": {"pages", "static files", "uploads", "client address", "SIGTERM"}}
LOOKED_AT["wsgi"] |= {"worker killed", "streams"}
LOOKED_AT["asgi"] = LOOKED_AT["wsgi"] | {"sockets"}

SERVERS = [
    Server(
        "uvicorn",
        "asgi",
        "uvicorn config.asgi:application --port 8000 --workers 2",
        differs={"client address": {"new id"}, "sockets": {"large frames"}},
    ),
    Server(
        "gunicorn -k asgi",
        "asgi",
        "gunicorn config.asgi:application --worker-class asgi --bind 127.0.0.1:8000 --workers 2",
        "gunicorn",
        differs={"sockets": {"large frames"}},
    ),
    Server(
        "granian",
        "asgi",
        "granian --interface asgi config.asgi:application --port 8000 --workers 2 "
        "--respawn-failed-workers --workers-kill-timeout 25",
        "granian",
        differs={"sockets": {"no id", "large frames"}},
    ),
    Server(
        "hypercorn",
        "asgi",
        "hypercorn config.asgi:application --bind 127.0.0.1:8000 --workers 0",
        "hypercorn",
        supervises=False,
        differs={"sockets": {"large frames"}, "worker killed": {"alone"}},
    ),
    Server(
        "daphne",
        "asgi",
        "daphne config.asgi:application --port 8000",
        "daphne",
        supervises=False,
        differs={
            "sockets": {"no id", "large frames"},
            "SIGTERM": {"cut off", "no 1012"},
            "worker killed": {"alone"},
        },
    ),
    Server(
        "gunicorn",
        "wsgi",
        "gunicorn config.wsgi:application --bind 127.0.0.1:8000 --workers 2 --threads 4",
    ),
    Server(
        "granian",
        "wsgi",
        "granian --interface wsgi config.wsgi:application --port 8000 --workers 2 "
        "--respawn-failed-workers --workers-kill-timeout 25",
        "granian",
    ),
    Server(
        "waitress",
        "wsgi",
        "waitress-serve --listen 127.0.0.1:8000 --no-clear-untrusted-proxy-headers "
        "config.wsgi:application",
        "waitress",
        supervises=False,
        differs={"SIGTERM": {"cut off"}, "worker killed": {"alone"}},
    ),
    Server(
        "uWSGI",
        "wsgi",
        "uwsgi --http11-socket 127.0.0.1:8000 --module config.wsgi:application --master "
        "--processes 2 --threads 4 --hook-master-start unix_signal:15~gracefully_kill_them_all",
        "uwsgi",
        differs={"uploads": {"411"}},
    ),
    Server(
        "mod_wsgi",
        "wsgi",
        "mod_wsgi-express start-server --application-type module config.wsgi --port 8000 "
        "--processes 2 --threads 4 --log-to-terminal --chunked-request "
        "--limit-request-body 20000000",
        "mod_wsgi",
        needs=("apxs", "apache2-bin apache2-dev"),
        never_root=True,
        differs={"pages": {"own words"}, "SIGTERM": {"cut off"}},
    ),
]

# By server, by what was looked at: what differed.
noted: dict[str, dict[str, list[str]]] = {}


def note(report: pytest.TestReport) -> None:
    """Remember what a test has recorded."""
    if report.when == "call":
        for name, value in report.user_properties:
            if name == "server":
                server, looked_at, found = json.loads(str(value))
                noted.setdefault(server, {})[looked_at] = found


def line(server: Server, found: dict[str, list[str]]) -> str:
    """Return the line of a server in the table."""
    command = server.command.replace("unix_signal:15~g", "'unix_signal:15 g")
    command += "'" if command != server.command else ""
    works = ", ".join(name for name, differences in found.items() if not differences)
    differs = "; ".join(SENTENCES[name] for names in found.values() for name in names)
    return f"| {server.name} | `{command}` | {works} | {differs or '–'} |"


def write() -> None:
    """Write the tables anew, one for each interface, if every server was looked at."""
    if set(noted) != {server.id for server in SERVERS}:
        return
    parts = []
    for interface in ("asgi", "wsgi"):
        head = [f"| {' | '.join(cells)} |" for cells in (HEAD, ["---"] * len(HEAD))]
        lines = [line(one, noted[one.id]) for one in SERVERS if one.interface == interface]
        parts.append("\n".join([f"**{interface.upper()}**", "", *head, *lines]))
    before, _, rest = FILE.read_text(encoding="utf-8").partition(BEGIN)
    text = "\n\n".join(parts)
    FILE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
