"""Real PostgreSQL and Redis servers on loopback, started by the tests and gone with them."""

import os
import random
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from tests.network import Host


# Ports that were given to somebody, whose server may not listen yet.
given: set[int] = set()


def free_port(count: int = 1) -> int:
    """Return a port on loopback that is free, as are the `count - 1` after it.

    It is given once, and parallel processes of pytest have their ranges apart: whoever asks
    next must not get it before its server listens. All are below the range from which the
    kernel takes ports for clients: one of those could come in between.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    width = 20_000 // processes
    for _ in range(100):
        port = 12_000 + number * width + random.randrange(width - count)
        ports = range(port, port + count)
        if given.isdisjoint(ports) and all(map(is_free, ports)):
            given.update(ports)
            return port
    raise RuntimeError("no free ports on loopback")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def wait_until(
    condition: Callable[[], object], what: str, seconds: float = 30, pause: float = 0.05
) -> None:
    """Wait until `condition` holds, or fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} seconds"
        time.sleep(pause)


@contextmanager
def ended(started: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process, and end it: with SIGTERM, and SIGKILL where that takes too long."""
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(timeout=40)
        finally:
            started.kill()


def answers(port: int, address: str = "127.0.0.1") -> bool:
    """Return whether somebody listens on `port`."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def missing(name: str, package: str) -> NoReturn:
    """Skip a test whose server is not on this machine; CI has to have it."""
    sentence = f"{name} is not on this machine: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@dataclass(frozen=True)
class PostgreSQL:
    """A running server: its programs' folder, its port, and its pg_ctl with all options."""

    programs: Path
    port: int
    pg_ctl: tuple[str, ...] = ()

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.query(f"create database {name}", "postgres")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def query(self, sql: str, database: str) -> str:
        """Run SQL and return what it answers."""
        return subprocess.run(
            [self.programs / "psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(self.port),
             "-U", "postgres", "-c", sql, database],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.strip()  # fmt: skip


@contextmanager
def postgresql(
    folder: Path,
    host: "Host | None" = None,
    user: str = "postgres",
    password: str = "",
    connections: int = 200,
) -> Iterator[PostgreSQL]:
    """Run a PostgreSQL server that keeps its data in `folder`.

    Not in one of pytest's: it closes them to other users, and so does the pytest of a project
    that is tested meanwhile, and this server is another user.

    On this machine's loopback it trusts everybody; on a `host` of a network it listens to all
    the others, on its usual port, and lets `user` in with `password`.
    """
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    found = shutil.which("pg_ctl") or (versions and str(versions[-1]))
    if not found:
        missing("PostgreSQL", "postgresql")
    programs = Path(found).resolve().parent
    data, port = folder / "data", 5432 if host else free_port()
    # The server refuses to run as root.
    prefix = list(host.enter) if host else []
    if os.geteuid() == 0:
        prefix += ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        shutil.chown(folder, "postgres", "postgres")
        for parent in folder.parents:
            if parent.owner() == "root" and parent.stat().st_mode & 0o777 == 0o700:
                parent.chmod(0o711)

    def run(*command: object) -> None:
        subprocess.run(
            [*prefix, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd=folder
        )

    (folder / "password").write_text(f"{password or 'none'}\n")
    run(programs / "initdb", "-A", "trust", "-U", user, "-N", "-D", data,
        "--pwfile", folder / "password")  # fmt: skip
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")
    options = (
        f"-c listen_addresses={'*' if host else '127.0.0.1'} -c port={port} "
        f"-c unix_socket_directories={folder} -c fsync=off "
        f"-c max_connections={100 if host else connections}"
    )
    run(programs / "pg_ctl", "-w", "-D", data, "-l", folder / "log", "-o", options, "start")
    try:
        if user != "postgres":
            run(programs / "createdb", "-h", folder, "-p", port, "-U", user, user)
        control = (*prefix, programs / "pg_ctl", "-w", "-D", data, "-l", folder / "log")
        yield PostgreSQL(programs, port, tuple(map(str, control)))
    finally:
        run(programs / "pg_ctl", "-w", "-m", "immediate", "-D", data, "stop")


@contextmanager
def redis(folder: Path, port: int = 0) -> Iterator[str]:
    """Run a Redis server, on `port` if it has to be that one, and yield its URL."""
    program = shutil.which("redis-server")
    if not program:
        missing("Redis", "redis-server")
    port = port or free_port()
    server = subprocess.Popen(
        [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: answers(port), "Redis listens")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()
