"""The servers that get the same load: the emitted ones, and Django as it ships."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fidelity import client
from tests.fidelity.client import Reply
from tests.project import Project
from tests.services import PostgreSQL, answers, free_port

PROBES = Path(__file__).with_name("probes")

# One process each. What is said in a table about it, and how it is started.
NAMES = {"asgi": "uvicorn", "wsgi": "gunicorn", "dev": "`just dev`"}
COMMANDS = {
    "asgi": "python -m config.uvicorn_conf",
    "wsgi": "gunicorn --config config/gunicorn.conf.py",
    "dev": "just dev",
    "stock asgi": "uvicorn fidelity_stock:application --host 127.0.0.1 --port {port} "
    "--lifespan off --loop uvloop --http httptools --no-access-log",
    "stock wsgi": "gunicorn fidelity_stock_wsgi:application --bind 127.0.0.1:{port} "
    "--worker-class gthread --threads 4 --workers 1 --no-control-socket",
}
STOCK = {"asgi": "stock asgi", "wsgi": "stock wsgi", "dev": "stock asgi"}
APPLICATIONS = {"asgi": "config.asgi.application", "stock asgi": "fidelity_stock.application"}


@dataclass(frozen=True)
class Server:
    """A server that runs, or a project in which code is run."""

    kind: str
    project: Project
    variables: dict[str, str]
    postgresql: PostgreSQL
    port: int

    @property
    def folder(self) -> Path:
        return Path(self.variables["FIDELITY_FOLDER"])

    async def get(self, path: str, patience: float = client.PATIENCE) -> Reply:
        return await client.get(self.port, path, patience)

    async def all(self, path: str, number: int, patience: float = client.PATIENCE) -> list[Reply]:
        """Ask for a path as often at once; `{}` in it is which one of them it is."""
        paths = (path.format(one) for one in range(number))
        return await client.get_all(self.port, paths, patience)

    async def pages(self, number: int = 12, patience: float = 15) -> list[Reply]:
        """Ask for ordinary pages. Their visitors are not as patient as a test can be."""
        return await self.all("/f/page/", number, patience)

    async def backends(self, condition: str = "true") -> int:
        """Return how many of its connections PostgreSQL knows."""
        name = self.variables["PGAPPNAME"]
        sql = (
            "select count(*) from pg_stat_activity "
            f"where application_name = '{name}' and {condition}"
        )
        return int(await asyncio.to_thread(self.postgresql.query, sql, "postgres"))

    async def run(self, *words: str) -> str:
        """Run a command in the project, beside what runs already; return what it prints."""
        return await asyncio.to_thread(self.project.must, *words, **self.variables)

    def reports(self) -> list[dict[str, Any]]:
        """Return what the tracer of this server has told."""
        file = Path(self.variables["FIDELITY_REPORTS"])
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]


@asynccontextmanager
async def started(server: Server) -> AsyncIterator[Server]:
    """Start it, wait until it answers, and kill it with all that it started."""
    command = COMMANDS[server.kind].format(port=server.port).split()
    with (server.folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=server.project.path,
            env=server.project.environment(**server.variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while not (answers(server.port) and (await server.get("/health/live", 5)).status == 200):
            told = (server.folder / "log").read_text()[-3000:]
            assert process.poll() is None, f"{command} ended at once:\n{told}"
            assert time.monotonic() < deadline, f"{command} does not answer:\n{told}"
            await asyncio.sleep(0.1)
        yield server
    finally:
        # Not asked to stop: what hangs in it would take its time.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def described(
    kind: str, row: str, project: Project, variables: dict[str, str], folder: Path,
    postgresql: PostgreSQL,
) -> Server:  # fmt: skip
    """Return the server of a kind for a row, with a folder and a port of its own."""
    folder.mkdir()
    port = free_port()
    own = {
        "PORT": str(port),
        "HOST": "127.0.0.1",
        "FIDELITY_FOLDER": str(folder),
        "FIDELITY_REPORTS": str(folder / "reports"),
        "FIDELITY_APPLICATION": APPLICATIONS.get(kind, ""),
        # PostgreSQL takes 63 characters of it.
        "PGAPPNAME": f"{row[:50]}-{port}",
    }
    if kind == "dev":
        own["DJANGO_DEBUG"] = "true"
    if kind.startswith("stock"):
        own["FIDELITY_STOCK"] = "true"
    return Server(kind, project, variables | own, postgresql, port)
