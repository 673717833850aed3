"""The socket that systemd passes, without systemd."""

import http.client
import json
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.combinations import Answers, name_of
from tests.conftest import Bake, Prepare
from tests.project import Project
from tests.services import wait_until
from tests.site import is_running
from tests.systemd.units import LOAD, Unit, unit

pytestmark = pytest.mark.deploy


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
    assert outcomes["200"] > 20


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
