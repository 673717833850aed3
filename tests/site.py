"""A generated project that runs: started as in production, spoken to over TCP."""

import json
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.project import Project
from tests.services import answers, free_port, wait_until

# The production commands of the servers, and the recipe that starts them all.
COMMANDS = {
    "gunicorn": ["gunicorn", "--config", "config/gunicorn.conf.py"],
    "uvicorn": ["python", "-m", "config.uvicorn_conf"],
    "just-gunicorn": ["just", "serve"],
    "just-uvicorn": ["just", "serve"],
    "caddy": ["just", "serve"],
    "no-proxy": ["just", "serve"],
}
STARTS = {
    "wsgi": ["gunicorn", "just-gunicorn"],
    "asgi": ["uvicorn", "just-uvicorn"],
    "both": ["gunicorn", "uvicorn", "caddy", "no-proxy"],
}
# The settings are the emitted ones but for the URLs.
PROBE_SETTINGS = 'from config.settings import *\n\nROOT_URLCONF = "probe_urls"\n'
PROBE_URLS = Path(__file__).with_name("probe_urls.py")

# What stands in the log of a site of which a part was killed or restarted.
RESTARTED = r"died|[Cc]onnection (closed|refused|rejected|reset)|upstream|reverse_proxy|aborting"

# At its very end the interpreter finds what it closes itself: a thread's database connection,
# which is kept for its next request, and gunicorn's heartbeat files.
AT_EXIT = "Exception ignored in: "


def without_exit(log: str) -> list[str]:
    """Return the lines of a log without what interpreters say of resources at their end.

    That is a line, a traceback or none, and a ResourceWarning. Lines of other processes may
    stand between them.
    """
    lines: list[str] = []
    # How many have begun, and where the first of them stands among the lines.
    open_ones, begun = 0, 0
    for line in log.splitlines():
        if line.startswith(AT_EXIT):
            begun = begun if open_ones else len(lines)
            open_ones += 1
        if open_ones and line.startswith("ResourceWarning: "):
            open_ones -= 1
            if not open_ones:
                noise = (AT_EXIT, "Traceback ", "  ")
                lines[begun:] = [one for one in lines[begun:] if not one.startswith(noise)]
        else:
            lines.append(line)
    return lines


def probes_of(project: Project) -> Path:
    """Return the folder for modules of these tests: in PYTHONPATH, and no part of the project."""
    return project.path / ".venv" / "probes"


def prepare(project: Project, **variables: str) -> None:
    """Do what a release does: probes in place, database migrated, static files collected."""
    probes_of(project).mkdir(exist_ok=True)
    (probes_of(project) / "probe_settings.py").write_text(PROBE_SETTINGS)
    shutil.copy(PROBE_URLS, probes_of(project))
    project.must("python", "manage.py", "migrate", "--no-input", **variables)
    project.must("python", "manage.py", "collectstatic", "--no-input", **variables)
    project.must(
        "python", "manage.py", "shell", "-c",
        "from django.contrib.auth import get_user_model as model\n"
        "for name in ('ada', 'bob'):\n"
        "    model().objects.filter(username=name).delete()\n"
        "    model().objects.create_superuser(name, password=f'password-of-{name}')",
        **variables,
    )  # fmt: skip


@dataclass
class Site:
    """A running site: its process, the port it answers on, and its log."""

    project: Project
    process: subprocess.Popen[bytes]
    port: int
    log_file: Path
    # What it was started as; see COMMANDS in test_serve.py.
    start: str
    # Cookies of the users; processes killed on purpose; all that were ever started.
    sessions: dict[str, str] = field(default_factory=dict)
    killed: set[int] = field(default_factory=set)
    family: set[int] = field(default_factory=set)
    # Its name or address, where the test is.
    host: str = "localhost"

    @property
    def origin(self) -> str:
        # As browsers write it.
        return f"http://{self.host}" + (f":{self.port}" if self.port != 80 else "")

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def lines_of(self, request_id: str) -> list[dict[str, Any]]:
        """Return the lines of the log that belong to a request."""
        # Apache puts its own words, in brackets, before each line.
        found = (re.fullmatch(r"(?:\[.*?\] )*({.*})", line) for line in self.log.splitlines())
        lines = [json.loads(one[1]) for one in found if one]
        return [line for line in lines if line.get("request_id") == request_id]

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Send a GET on a connection of its own, without loading certificates for it."""
        return httpx.get(self.origin + path, timeout=20, verify=False, **options)

    def reloaded(self, path: str) -> str:
        """Return the page at `path`, or nothing while the server restarts."""
        with suppress(httpx.HTTPError):
            return self.get(path).text
        return ""

    @contextmanager
    def browser(self, user: str | None = None) -> Iterator[httpx.Client]:
        """Yield a client with cookies, logged in through the form if `user` is given."""
        with httpx.Client(
            base_url=self.origin, follow_redirects=True, timeout=20, verify=False
        ) as client:
            if user:
                fields = {"username": user, "password": f"password-of-{user}"}
                self.submit(client, "/accounts/login/", **fields)
            yield client

    @staticmethod
    def submit(client: httpx.Client, path: str, to: str = "", **fields: str) -> httpx.Response:
        """Send the form on the page at `path`, to the address `to` if that is another."""
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get(path).text)
        assert token, f"{path} has no form"
        return client.post(to or path, data=fields | {"csrfmiddlewaretoken": token[1]})

    def cookies_of(self, user: str) -> str:
        """Return the Cookie header of `user`, who is logged in once."""
        if user not in self.sessions:
            with self.browser(user) as client:
                cookies = [f"{name}={value}" for name, value in client.cookies.items()]
            self.sessions[user] = "; ".join(cookies)
        return self.sessions[user]

    def socket(
        self,
        path: str = "/ws/chat/lobby/",
        origin: str | None = "same",
        user: str | None = "ada",
        headers: dict[str, str] | None = None,
        at: str = "",
    ) -> ClientConnection:
        """Open a WebSocket, as a browser on a page of `origin` with `user` logged in.

        With `at` it is at that address and port of the site, and not at the usual one.
        """
        headers = dict(headers or {})
        if user:
            headers["Cookie"] = self.cookies_of(user)
        if origin == "same":
            origin = f"http://{at}" if at else self.origin
        return connect(
            f"ws://{at or f'{self.host}:{self.port}'}{path}",
            origin=origin,  # type: ignore[arg-type]
            additional_headers=headers,
            open_timeout=10,
            proxy=None,
        )

    def refusal(self, **options: Any) -> int:
        """Return the status with which the handshake of a WebSocket is refused."""
        try:
            with self.socket(**options):
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    def note_family(self) -> list[psutil.Process]:
        """Return all processes of the site, and remember them."""
        found = [psutil.Process(self.process.pid)]
        found += found[0].children(recursive=True)
        self.family |= {process.pid for process in found}
        return found

    def workers(self) -> list[psutil.Process]:
        """Return the processes that serve: the children of gunicorn and of uvicorn."""
        everybody = self.note_family()
        supervisors = [
            process
            for process in everybody
            if {"gunicorn", "config.uvicorn_conf"} & {Path(word).name for word in cmdline(process)}
        ]
        children: list[psutil.Process] = []
        for supervisor in supervisors:
            with suppress(psutil.NoSuchProcess):
                children += supervisor.children()
        return [
            child
            for child in children
            if is_running(child.pid) and "resource_tracker" not in " ".join(cmdline(child))
        ]

    def worker_of(self, socket: ClientConnection) -> int:
        """Return the id of the process at the other end of `socket`."""
        port = socket.socket.getsockname()[1]
        for worker in self.workers():
            for connection in worker.net_connections(kind="tcp"):
                if connection.raddr and connection.raddr.port == port:
                    return worker.pid
        raise AssertionError(f"no worker holds the connection from port {port}")

    def kill(self, pid: int) -> None:
        """Kill a worker, as the kernel does when memory runs out."""
        self.killed.add(pid)
        psutil.Process(pid).kill()

    def answers_everywhere(self) -> bool:
        """Return whether every worker has the site loaded: many connections all succeed."""
        return all(self.get("/probe/facts/").status_code == 200 for _ in range(10))

    def stop(self, seconds: float = 25) -> int:
        """Send SIGTERM and return the exit status; fail if it takes longer than `seconds`."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds)

    def assert_clean_log(self, but_for: str = "^$", restarted: bool = False) -> None:
        """Check that there is no warning, no error and no traceback in the log, but for lines
        that match the pattern `but_for`."""
        ended = restarted or self.process.poll() is not None
        wrong = [
            line
            for line in (without_exit(self.log) if ended else self.log.splitlines())
            if not re.search(but_for, line)
            and not any(f"pid:{pid}" in line for pid in self.killed)
            and (
                re.search(r"Traceback|Exception|Error\b|[Ww]arning", line)
                or re.search(r'"level": ?"(warning|error|critical)"', line)
            )
        ]
        assert not wrong, "\n".join(wrong[:20])


@contextmanager
def running(
    project: Project,
    command: list[str],
    log_file: Path,
    start: str = "",
    port: int = 0,
    seconds: float = 180,
    **variables: str,
) -> Iterator[Site]:
    """Start `command` in `project`, wait until it answers, and end it with all it started.

    It answers on `port`, if it has to be that one, and adds to the log of one that did before.
    """
    port = port or free_port(3)
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=project.path,
            env=project.environment(**{"PORT": str(port), **variables}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    site = Site(project, process, port, log_file, start)
    try:

        def ready() -> bool:
            assert process.poll() is None, f"{command} ended at once:\n{site.log}"
            if not answers(port):
                return False
            # Behind a proxy each half has to be there; where there is one half it is a 404.
            with suppress(httpx.HTTPError):
                return all(
                    site.get(path).status_code < 500 for path in ("/health/live", "/async/status/")
                )
            return False

        wait_until(ready, f"{command} answers", seconds)
        yield site
    except BaseException:
        print(site.log[-20_000:])
        print(*described(process.pid), sep="\n")
        raise
    finally:
        with suppress(psutil.NoSuchProcess):
            site.family |= {
                child.pid for child in psutil.Process(process.pid).children(recursive=True)
            }
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in site.family:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()


def say(socket: ClientConnection, text: str) -> None:
    """Say something in the room of a socket of the chat."""
    key = uuid.uuid4().hex
    socket.send(json.dumps({"type": "message", "key": key, "text": text}))


def next_frame(socket: ClientConnection, *types: str) -> dict[str, Any]:
    """Return the next frame of one of these types."""
    while True:
        frame = json.loads(socket.recv(timeout=15))
        if frame["type"] in types:
            return frame


def close_code(socket: ClientConnection) -> int | None:
    """Return the code with which a socket is closed, None if its connection just ends."""
    try:
        while True:
            socket.recv(timeout=15)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


def cmdline(process: psutil.Process) -> list[str]:
    """Return the command line of a process, empty if it is gone."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def described(pid: int) -> list[str]:
    """Return a line for each process of a family: what it is and what it does."""
    lines = []
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            seconds = sum(process.cpu_times()[:2])
            lines.append(
                f"{process.pid} {process.status()}, {seconds:.1f} s of processor: "
                + " ".join(cmdline(process))
            )
    return lines


def is_running(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_exit(pids: list[int], seconds: float = 10) -> None:
    wait_until(lambda: not any(map(is_running, pids)), "the processes end", seconds)


def slow_request(site: Site, path: str = "/probe/slow/", **options: Any) -> Any:
    """Start a request that takes 3 seconds in a thread; its result() is the response."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    future = pool.submit(site.get, path, **options)
    time.sleep(1)
    pool.shutdown(wait=False)
    return future
