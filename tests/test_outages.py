"""Database and Redis go away under a running site: what people, monitoring and the log see.

Both halves of `both` run, one process each, on a PostgreSQL and a Redis of their own.
"""

import json
import os
import re
import shlex
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import InvalidStatus

from tests import services
from tests.combinations import name_of
from tests.conftest import Bake
from tests.project import PRODUCTION, Project
from tests.services import PostgreSQL, free_port, wait_until
from tests.site import (
    COMMANDS,
    Site,
    close_code,
    next_frame,
    prepare,
    probes_of,
    running,
    say,
    wait_for_exit,
)

pytestmark = pytest.mark.serve

ANSWERS = {"interface": "both", "realtime": "channels", "database": "postgresql"}
CONNECTIONS = 25
HALVES = ["gunicorn", "uvicorn"]
# What nobody shall find in the log of an outage.
NOISE = re.compile(r"Traceback|Exception in ASGI|Internal Server Error|Unexpected exception")


class Town:
    """Both halves of a site, and what they need."""

    def __init__(self, project: Project, folder: Path, stack: ExitStack) -> None:
        self.project = project
        self.folder = folder
        self.stack = stack
        # Not in pytest's folder, which is closed to the user of PostgreSQL.
        self.data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tests-outages-")))
        self.postgresql: PostgreSQL = stack.enter_context(
            services.postgresql(self.data, connections=CONNECTIONS)
        )
        self.redis = stack.enter_context(ExitStack())
        self.redis_port = free_port()
        self.start_redis()
        self.variables = PRODUCTION | {
            "DJANGO_SETTINGS_MODULE": "probe_settings",
            "PYTHONPATH": str(probes_of(project)),
            "DJANGO_HTTPS": "false",
            "WEB_CONCURRENCY": "1",
            "DATABASE_URL": self.postgresql.new_database(),
            "REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
        }
        prepare(project, **self.variables)
        self.sites = {name: self.start(name) for name in ("gunicorn", "uvicorn")}

    def start(self, name: str, log: str = "") -> Site:
        log_file = self.folder / f"{log or name}.log"
        return self.stack.enter_context(
            running(self.project, COMMANDS[name], log_file, name, **self.variables)
        )

    def another(self, name: str, **variables: str) -> AbstractContextManager[Site]:
        """Start processes that have no connection to the database yet."""
        log_file, variables = self.folder / "another.log", self.variables | variables
        return running(self.project, COMMANDS[name], log_file, name, **variables)

    def tell_redis(self, command: str) -> None:
        with socket.create_connection(("127.0.0.1", self.redis_port), timeout=20) as connection:
            connection.sendall(f"{command}\r\n".encode())
            assert connection.recv(5) == b"+OK\r\n"

    @contextmanager
    def no_connection_left(self) -> Iterator[None]:
        """Take all of PostgreSQL's connections that are free."""
        # https://www.postgresql.org/docs/current/protocol-message-formats.html
        name = self.variables["DATABASE_URL"].rpartition("/")[2]
        words = f"user\0postgres\0database\0{name}\0\0".encode()
        hello = struct.pack("!II", len(words) + 8, 3 << 16) + words
        with ExitStack() as stack:
            for _ in range(CONNECTIONS + 1):
                address = ("127.0.0.1", self.postgresql.port)
                one = stack.enter_context(socket.create_connection(address, timeout=20))
                one.sendall(hello)
                if one.recv(1) == b"E":
                    break
            else:
                pytest.fail("PostgreSQL gives more connections than it should")
            yield

    @contextmanager
    def without_writes(self) -> Iterator[None]:
        """Let Redis refuse them."""
        self.tell_redis("CONFIG SET min-replicas-to-write 1")
        try:
            yield
        finally:
            self.tell_redis("CONFIG SET min-replicas-to-write 0")

    @contextmanager
    def hanging_redis(self) -> Iterator[None]:
        [server] = [
            process
            for process in psutil.Process().children()
            if process.name() == "redis-server"
            and str(self.redis_port) in " ".join(process.cmdline())
        ]
        server.suspend()
        try:
            yield
        finally:
            server.resume()

    def start_redis(self) -> None:
        self.redis.enter_context(services.redis(self.folder, self.redis_port))

    def control_postgresql(self, *options: str) -> None:
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        subprocess.run(
            [
                *(user if os.geteuid() == 0 else []),
                str(self.postgresql.programs / "pg_ctl"), "-w", "-D", str(self.data / "data"),
                *options,
            ],
            check=True, stdout=subprocess.DEVNULL, cwd=self.data,
        )  # fmt: skip

    @contextmanager
    def without_postgresql(self) -> Iterator[None]:
        _, *options = shlex.split((self.data / "data/postmaster.opts").read_text())
        self.control_postgresql("-m", "immediate", "stop")
        try:
            yield
        finally:
            self.control_postgresql(
                "-l", str(self.data / "log"), "-o", shlex.join(options), "start"
            )

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        self.redis.close()
        try:
            yield
        finally:
            self.start_redis()


# Its name keeps these tests in one process of pytest.
@pytest.fixture(scope="module", params=[ANSWERS], ids=[f"{name_of(ANSWERS)}-outages"])
def town(
    request: pytest.FixtureRequest, install: Bake, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Town]:
    with ExitStack() as stack:
        yield Town(install(**request.param), tmp_path_factory.mktemp("outages"), stack)


@pytest.fixture(params=HALVES)
def site(request: pytest.FixtureRequest, town: Town) -> Site:
    """Each half in turn, whose log is read from here on."""
    return town.sites[request.param]


class Log:
    """What is written to a log from now on."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.start = len(site.log)

    @property
    def text(self) -> str:
        return self.site.log[self.start :]

    def lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def one(self, event: str) -> dict[str, Any]:
        """Return the only line of an event, which may still be on its way."""
        wait_until(lambda: self.lines(event), f"a line {event!r}")
        [line] = self.lines(event)
        return line


def readiness(site: Site, workers: set[int]) -> set[int]:
    """Return what each of these processes of a site says of itself at /health/ready."""
    found: dict[int, int] = {}
    # Which process gets a connection is a matter of luck.
    deadline = time.monotonic() + 30
    while not workers <= found.keys():
        assert time.monotonic() < deadline, (workers, found)
        with closing(HTTPConnection("127.0.0.1", site.port, timeout=20)) as connection:
            connection.connect()
            # Both answers are of the process that has this connection.
            connection.auto_open = 0
            connection.request("GET", "/probe/facts/")
            pid = json.loads(connection.getresponse().read())["pid"]
            connection.request("GET", "/health/ready")
            found[pid] = connection.getresponse().status
    return {found[worker] for worker in workers}


def status_of(site: Site) -> tuple[int, str]:
    answer = site.get("/health/ready")
    return answer.status_code, answer.json()["status"]


# Paths whose views or middleware ask the database: a page, an async view, the session alone.
PATHS = ["/chat/", "/probe/query/", "/async/query/", "/no/such/page/"]


def test_page_without_its_database_is_a_503_and_the_log_has_one_line(
    town: Town, site: Site
) -> None:
    cookies = {"Cookie": site.cookies_of("ada")}
    assert status_of(site) == (200, "ok")
    log = Log(site)
    with town.without_postgresql():
        for path in PATHS * 5:
            answer = site.get(path, headers=cookies)
            assert answer.status_code == 503, path
            assert int(answer.headers["Retry-After"]) > 0
            assert "database cannot be reached" in answer.text
            request_id = answer.headers["X-Request-ID"]
            wait_until(
                lambda wanted=request_id: (
                    "database" in {line.get("away") for line in site.lines_of(wanted)}
                ),
                "the access line says why",
            )
        # Those that need no database are as ever.
        assert site.get("/health/live").status_code == 200
        assert site.get("/accounts/login/").status_code == 200
        assert status_of(site) == (200, "degraded")
        assert site.get("/health/ready").json()["checks"]["database"] == "failed"
    assert site.get("/probe/query/").status_code == 200
    assert site.get("/async/query/").status_code == 200
    assert status_of(site) == (200, "ok")

    assert "refused" in log.one("database is away")["error"]
    assert log.one("database is back")["failures"] >= len(PATHS) * 5 - 1
    assert not NOISE.search(log.text)


def test_a_view_that_is_wrong_is_still_an_error_with_its_traceback(site: Site) -> None:
    log = Log(site)

    answer = site.get("/async/failure/")

    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert log.text.count("LookupError: for a test") == 1


def test_sockets_without_a_database_are_refused_and_open_ones_go_on(town: Town) -> None:
    site = town.sites["uvicorn"]
    with site.socket(path="/ws/chat/outage/") as socket:
        next_frame(socket, "people")
        log = Log(site)
        with town.without_postgresql():
            for _ in range(5):
                assert site.refusal() == 503
            socket.send(json.dumps({"type": "message", "key": "k", "text": "lost?"}))
            assert next_frame(socket, "error")["again"]
            # Some work of the hub comes due meanwhile.
            wait_until(lambda: log.text.count('"websocket"') == 5, "they are in the log")
        wait_until(lambda: say(socket, "again") or next_frame(socket, "stored", "error")["type"]
                   == "stored", "what is said is stored again")  # fmt: skip
    refused = log.lines("websocket")[:5]
    assert [(line["status"], line["refused"]) for line in refused] == [
        (503, "its session could not be read")
    ] * 5
    # It was told in the test before, less than a minute ago.
    assert len(log.lines("database is away")) <= 1
    assert not NOISE.search(log.text)


def test_process_that_never_reached_its_database_is_not_ready(town: Town) -> None:
    with ExitStack() as stack:
        with town.without_postgresql():
            late = stack.enter_context(
                running(
                    town.project, COMMANDS["gunicorn"], town.folder / "late.log", "gunicorn",
                    **town.variables,
                )
            )  # fmt: skip
            assert late.get("/health/live").status_code == 200
            assert status_of(late) == (503, "failed")
        wait_until(lambda: status_of(late) == (200, "ok"), "it has reached it")


@pytest.mark.parametrize("half", HALVES)
def test_process_that_was_ready_stays_so_while_another_one_is_replaced(
    town: Town, half: str
) -> None:
    """The new one may have a wrong DATABASE_URL for all it knows; the old one serves on."""
    with town.another(half, WEB_CONCURRENCY="2") as site:
        workers = {worker.pid for worker in site.workers()}
        wait_until(lambda: readiness(site, workers) == {200}, "both are ready")
        with town.without_postgresql():
            killed = min(workers)
            site.kill(killed)
            wait_for_exit([killed])
            wait_until(lambda: len(site.workers()) == 2, "another one starts", 60)
            [new] = {worker.pid for worker in site.workers()} - workers
            assert readiness(site, {new}) == {503}
            assert readiness(site, workers - {killed}) == {200}
        wait_until(
            lambda: readiness(site, workers - {killed} | {new}) == {200}, "both are ready", 60
        )


@pytest.mark.parametrize("half", HALVES)
def test_page_for_which_no_connection_is_free_is_a_503_and_the_log_has_one_line(
    town: Town, half: str
) -> None:
    """In a process that has none yet."""
    with town.another(half) as site:
        log = Log(site)
        with town.no_connection_left():
            for path in ["/probe/query/", "/async/query/"] * 5:
                answer = site.get(path)
                assert answer.status_code == 503, path
                assert int(answer.headers["Retry-After"]) > 0
                assert "database cannot be reached" in answer.text
        for path in ("/probe/query/", "/async/query/"):
            assert site.get(path).status_code == 200
    assert "too many clients" in log.one("database is away")["error"]
    assert log.one("database is back")["failures"] >= 9
    assert not NOISE.search(log.text)


def test_site_without_redis_is_ready_and_loses_nothing(town: Town) -> None:
    live, pages = town.sites["uvicorn"], town.sites["gunicorn"]
    logs = [Log(live), Log(pages)]
    with (
        live.socket(path="/ws/chat/no-redis/") as ada,
        live.socket(path="/ws/chat/no-redis/", user="bob") as bob,
    ):
        with town.without_redis():
            for site in (live, pages):
                assert status_of(site) == (200, "degraded")
                assert site.get("/").status_code == 200
            for number in range(3):
                # In this process, and in the other, of which only the database tells.
                say(ada, f"here {number}")
                assert next_frame(bob, "message")["text"] == f"here {number}"
                assert pages.get(f"/probe/publish/no-redis/there{number}/").status_code == 200
                assert next_frame(bob, "message")["text"] == f"there{number}"
                with suppress(InvalidStatus), pages.browser("ada"):
                    pass
        wait_until(lambda: status_of(live) == status_of(pages) == (200, "ok"), "it is back")
        wait_until(lambda: "Redis is back" in live.log, "the hub hears of others again", 60)
    wait_until(lambda: logs[0].text.count('"path": "/ws/chat/no-redis/"') == 2, "both are closed")
    for log in logs:
        assert log.one("Redis is away")
        assert not NOISE.search(log.text)
        problems = re.findall(r'"level": ?"(?:warning|error)"', log.text)
        # Beside it, that log-ins are not counted and what the checks say.
        assert len(problems) <= 4, log.text
    assert len(logs[0].lines("Redis is back")) == 1


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        (Town.no_connection_left, {"database": "failed"}),
        (Town.without_writes, {"cache": "failed", "channel_layer": "ok"}),
        (Town.hanging_redis, {"cache": "failed", "channel_layer": "no answer"}),
    ],
    ids=["no connection left", "no writes", "hanging Redis"],
)
def test_what_all_share_takes_no_process_out_of_rotation(
    town: Town, site: Site, fault: Any, checks: dict[str, str]
) -> None:
    assert status_of(site) == (200, "ok")
    with fault(town):
        answer = site.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert checks.items() <= answer.json()["checks"].items()
        assert site.get("/health/live").status_code == 200
        assert site.get("/").status_code == 200
    wait_until(lambda: status_of(site) == (200, "ok"), "all is well again")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"origin": "https://evil.example"}, "origin 'https://evil.example'"),
        ({"origin": None}, "origin ''"),
        ({"user": None}, "not logged in"),
        ({"path": "/ws/no/such/socket/"}, "no such path"),
    ],
    ids=["other origin", "no origin", "no session", "no path"],
)
def test_refused_socket_has_one_line_with_its_reason(
    town: Town, options: dict[str, Any], reason: str
) -> None:
    site = town.sites["uvicorn"]
    log = Log(site)
    path = options.pop("path", "/ws/chat/lobby/")

    assert site.refusal(path=f"{path}?token=secret", **options) == 403

    assert log.one("websocket")["refused"] == reason
    assert log.text.count("\n") == 1
    assert "secret" not in log.text


def test_handshake_that_is_none_has_one_line_with_its_reason(town: Town) -> None:
    site = town.sites["uvicorn"]
    log = Log(site)
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as raw:
        raw.sendall(
            b"GET /ws/status/?token=secret HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert raw.recv(12) == b"HTTP/1.1 400"

    line = log.one("websocket")
    assert (line["path"], line["status"]) == ("/ws/status/", 400)
    assert "Sec-WebSocket-Key" in line["refused"]
    assert log.text.count("\n") == 1


def test_query_of_a_socket_is_not_in_the_log(town: Town) -> None:
    site = town.sites["uvicorn"]
    log = Log(site)
    with site.socket(path="/ws/chat/lobby/?token=secret") as socket:
        next_frame(socket, "people")

    assert log.one("websocket")["code"] == 1000
    assert "secret" not in log.text


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),
        (b"\x81\xff" + (2**17).to_bytes(8) + b"\0\0\0\0", 1009),
        (b"\xf1\x80\0\0\0\0", 1002),
    ],
    ids=["no UTF-8", "too large", "reserved bits"],
)
def test_unfit_frame_is_no_error_in_the_log(town: Town, frame: bytes, code: int) -> None:
    site = town.sites["uvicorn"]
    log = Log(site)
    with site.socket(path="/ws/status/", user=None) as socket:
        socket.recv()
        socket.socket.sendall(frame)
        assert close_code(socket) == code

    assert log.one("websocket")["code"] == code
    assert not re.search(r'Traceback|"level": ?"(warning|error)"', log.text)


def test_sockets_of_nobody_are_bounded_by_address(town: Town) -> None:
    site = town.sites["uvicorn"]
    log = Log(site)
    with ExitStack() as stack:

        def open_one(address: str) -> int:
            with suppress(InvalidStatus):
                headers = {"X-Forwarded-For": address}
                stack.enter_context(site.socket(path="/ws/status/", user=None, headers=headers))
                return 101
            return 429

        found = [open_one(f"2001:db8::{number:x}") for number in range(51)]
        assert found == [101] * 50 + [429]
        # Others can, and those who are logged in.
        assert open_one("2001:db8:0:1::1") == 101
        assert site.refusal() == 101
    assert [line["refused"] for line in log.lines("websocket") if line["status"] == 429] == [
        "too many sockets of this address"
    ]
    wait_until(lambda: site.refusal(path="/ws/status/", user=None) == 101, "there is room again")
