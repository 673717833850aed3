"""A site with a PostgreSQL and a Redis of its own under load, and a fault in the middle of it."""

import json
import math
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil
import pytest
from _pytest.mark import ParameterSet

from tests import services
from tests.combinations import SITES, Answers, name_of
from tests.conftest import Prepare
from tests.faults.crowd import UNREAD, Crowd
from tests.faults.disk import small_disk
from tests.faults.table import named, project_of
from tests.herd import sessions
from tests.house import House
from tests.project import PRODUCTION, Project
from tests.services import answers, wait_until
from tests.site import COMMANDS as SERVERS
from tests.site import Site, cmdline, prepare, probes_of, running

PAIRS = [answers for answers in SITES if answers["database"] == "postgresql"]
# Each interface and each kind of realtime once: for a fault that meets one server or one service,
# and for clients that keep it busy.
PRODUCTS = [
    answers
    for answers in PAIRS
    if (answers["interface"], answers["realtime"])
    in (("wsgi", "none"), ("asgi", "sse"), ("both", "channels"))
]
# The same on SQLite.
ON_SQLITE = [answers | {"database": "sqlite"} for answers in PRODUCTS]


def seen_in(pairs: list[Answers], fault: str, **most: int) -> list[ParameterSet]:
    """Return a fault for each of these pairs, as parameters of a test."""
    return [pytest.param(pair, marks=named(fault, **most), id=name_of(pair)) for pair in pairs]


EVERY_PAIR = pytest.mark.parametrize("stage", PAIRS, ids=name_of, indirect=True)
AND_ON_SQLITE = pytest.mark.parametrize("stage", PAIRS + ON_SQLITE, ids=name_of, indirect=True)
# A small one with both servers, for faults of one process.
SMALL = {"interface": "both", "realtime": "none", "database": "sqlite"}
PROBES = Path(__file__).with_name("probes")
CLIENTS = 20
# Seconds of load before a fault and after it.
BEFORE = AFTER = 2
# What any answer of a site is that works.
GOOD = {"200", "201"}
# What `just serve` runs when it has migrated and collected.
COMMANDS = {
    "wsgi": ["gunicorn", "--config", "config/gunicorn.conf.py"],
    "asgi": ["python", "-m", "config.uvicorn_conf"],
    "both": ["python", "-m", "config.serve"],
}


@dataclass
class Fault:
    """What came of a fault, for those who looked on."""

    name: str
    outcomes: dict[str, int] = field(default_factory=dict)
    ready: dict[str, int] = field(default_factory=dict)
    # The clients, and when the load began, something went wrong, and when it was over.
    crowd: Crowd | None = None
    calm: float = 0
    began: float = 0
    over: float = 0
    # Messages and notifications that nobody lost and nobody heard twice.
    messages: int = 0
    # Seconds from the moment in which it was over until every client was served again.
    recovered: float = 0
    lines: int = 0
    # Added by a test: what is particular to its fault.
    remark: str = ""

    def count(self, *outcomes: str) -> int:
        return sum(self.outcomes.get(outcome, 0) for outcome in outcomes)

    @property
    def lost(self) -> int:
        """Return how many requests a server had read that got no answer. Whom nobody let in,
        and who was told to come again, has lost nothing."""
        return sum(
            number
            for outcome, number in self.outcomes.items()
            if outcome not in GOOD | {"refused", UNREAD, "500", "502", "503", "504"}
        )

    @property
    def all_are_answered(self) -> bool:
        return self.count(*GOOD) == sum(self.outcomes.values()) > 0

    def stays_ready(self) -> None:
        """Check that /health/ready said so before, during and after it, and in time."""
        assert set(self.ready) == {"200"}, self.ready

    @property
    def longest(self) -> float:
        """Return the seconds that the slowest request took."""
        assert self.crowd
        visits = [visit for visit in self.crowd.visits if visit.ended < math.inf]
        return max(visit.ended - visit.began for visit in visits)

    def keeps_its_pace(self, since: float, until: float) -> None:
        """Check that requests between two moments took about as long as before the fault, in
        this run, on this machine; add to the remark how long that was."""
        assert self.crowd
        before = self.crowd.pace(self.calm, self.began)
        now = self.crowd.pace(since, until)
        words = [f"{m * 1000:.0f} ms (19 of 20: {p * 1000:.0f})" for m, p in (before, now)]
        told = f"a request takes {words[1]}, before {words[0]}"
        self.remark += "; " * bool(self.remark) + told
        for was, is_ in zip(before, now, strict=True):
            assert is_ < max(4 * was, was + 0.3), told

    def row(self, project: str) -> list[str]:
        """Return its line of the table in docs/faults.md."""
        told = {"200": 0} | {"200": self.count(*GOOD)}
        told |= {name: n for name, n in sorted(self.outcomes.items()) if name not in GOOD}
        seen = ", ".join(f"{number} × {name}" for name, number in told.items())
        ready = ", ".join(sorted(self.ready)) or "not asked"
        lost = f"{self.lost}" + (f"; 0 of {self.messages} messages" if self.messages else "")
        seen += f"; {self.remark}" if self.remark else ""
        return [self.name, project, seen, lost, f"{self.recovered:.1f}", ready, str(self.lines)]


@contextmanager
def watched(fault: Fault, site: Callable[[], Site], crowd: Crowd, seconds: float) -> Iterator[None]:
    """Do what is in the block under load; then everybody is served again.

    Its end is the moment in which the fault is over, unless the block has said when that was.
    """
    crowd.start()
    wait_until(lambda: crowd.is_well_since(0), "everybody is there", 60)
    crowd.start()
    log = len(site().log)
    fault.crowd, fault.calm = crowd, time.monotonic()
    time.sleep(BEFORE)
    fault.began = time.monotonic()
    try:
        yield
        over = time.monotonic()
        fault.over = fault.over or over
        wait_until(
            lambda: crowd.is_well_since(fault.over), f"all are served after {fault.name}",
            seconds, 0.1,
        )  # fmt: skip
        fault.recovered = time.monotonic() - fault.over
        time.sleep(AFTER)
    finally:
        crowd.stop()
        print(fault.name, dict(crowd.outcomes), dict(crowd.ready))
    # Those that are on their way are answered.
    wait_until(lambda: not crowd.is_asking(), "all are answered", 80)
    fault.outcomes, fault.ready = dict(crowd.outcomes), dict(crowd.ready)
    fault.lines = log_lines(site().log[log:])


def log_lines(text: str) -> int:
    """Count the lines that tell of more than one request, one socket or one stream."""
    count = 0
    for line in text.splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if entry.get("logger") == "access" or entry.get("event") in (
                "chat entered", "chat left",
            ):  # fmt: skip
                continue
        count += 1
    return count


class Scene(House):
    """A site, its services, and everybody who uses it."""

    database: services.PostgreSQL

    def __init__(self, project: Project, folder: Path, **variables: str) -> None:
        self.copy_probes(project)
        given = PRODUCTION | {
            "DJANGO_SETTINGS_MODULE": "faults_settings",
            "PYTHONPATH": str(probes_of(project)),
            "DJANGO_HTTPS": "false",
            "WEB_CONCURRENCY": "2",
        }
        super().__init__(project, "uvicorn", folder, given | variables)
        # What a new version and the clock are like: see probes/faults_settings.py.
        self.release, self.clock = folder / "release", folder / "clock"
        self.release.write_text("")
        self.clock.write_text("0")
        self.variables |= {"FAULTS_RELEASE": str(self.release), "FAULTS_CLOCK": str(self.clock)}
        self.name = project_of(project.answers)
        # What the test that runs now is about.
        self.about = ""
        self.command = COMMANDS[project.answers["interface"]]
        self.stack = ExitStack()
        self.crowd = Crowd(self.port)

    def __enter__(self) -> Self:
        with self.stack:
            if self.project.is_(database="postgresql"):
                where = self.stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="tests-postgresql-")
                )
                self.database = self.stack.enter_context(services.postgresql(Path(where)))
                self.stack.callback(self.database_up)
                self.variables["DATABASE_URL"] = self.database.new_database()
            else:
                self.disk = self.stack.enter_context(small_disk(self.folder / "disk", 64))
                self.variables["DATABASE_URL"] = f"sqlite:///{self.disk}/db.sqlite3"
            prepare(self.project, **self.variables)
            self.stack.push(super().__exit__)
            super().__enter__()
            self.let_everybody_come()
            self.stack.callback(self.crowd.talk.end)
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.__exit__(*error)  # type: ignore[arg-type]

    @staticmethod
    def copy_probes(project: Project) -> None:
        probes_of(project).mkdir(exist_ok=True)
        for probe in PROBES.glob("*.py"):
            shutil.copy(probe, probes_of(project))

    def let_everybody_come(self) -> None:
        keys = sessions(self, CLIENTS)
        names = [f"herd-{number}" for number in range(CLIENTS)]
        cookies = {name: f"sessionid={key}" for name, key in zip(names, keys, strict=True)}
        self.cookies = cookies
        has = self.project.is_
        ways = ["fault"] if has(interface="wsgi") else ["fault", "async"]
        suffix = "?notify=1" if has(realtime="sse") else ""
        self.crowd.come(
            [
                (name, f"/{ways[n % len(ways)]}/write/{name}/{{}}/{suffix}")
                for n, name in enumerate(names)
            ],
            list(cookies.items()) if has(realtime="sse") else [],
            [
                (name, f"ws://localhost:{self.port}/ws/chat/faults/", {"Cookie": cookie},
                 self.site.origin)
                for name, cookie in cookies.items()
            ]
            if has(realtime="channels")
            else [],
        )  # fmt: skip

    def start_site(self, **changes: str) -> None:
        self.variables |= changes
        self.site = self.server.enter_context(
            running(
                self.project, self.command, self.folder / "log", "faults", self.port, 180,
                **self.variables,
            )
        )  # fmt: skip

    # What can be done to it

    def masters(self) -> list[psutil.Process]:
        """Return gunicorn's and uvicorn's first processes."""
        return [
            process
            for process in self.site.note_family()
            if (words := cmdline(process))
            and {"gunicorn", "config.uvicorn_conf"} & {Path(word).name for word in words}
            and not {"gunicorn", "config.uvicorn_conf"}
            & {Path(word).name for word in cmdline(process.parent())}
            and "just" not in Path(words[0]).name
        ]

    def database_do(self, *words: str) -> None:
        subprocess.run(
            [*self.database.pg_ctl, *words], check=True, stdout=subprocess.DEVNULL, cwd="/"
        )

    def database_up(self) -> None:
        """Let it go on, or start it with the options that it had."""
        for process in self.database_processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()
        if not answers(self.database.port):
            self.database_do("restart")

    def database_processes(self) -> list[psutil.Process]:
        data = Path(self.database.pg_ctl[self.database.pg_ctl.index("-D") + 1])
        with suppress(OSError, psutil.NoSuchProcess):
            first = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
            return [first, *first.children()]
        return []

    def redis_cli(self, *words: str) -> str:
        return subprocess.run(
            ["redis-cli", "-p", str(self.redis_port), *words],
            check=True, stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip

    def redis_process(self) -> psutil.Process:
        info = self.redis_cli("info", "server")
        return psutil.Process(int(re.findall(r"process_id:(\d+)", info)[0]))

    def signal_masters(self, number: signal.Signals) -> None:
        for process in self.masters():
            process.send_signal(number)

    def workers_of(self, program: str) -> set[int]:
        """Return the workers of gunicorn or of config.uvicorn_conf."""
        found = {worker.pid: cmdline(worker.parent()) for worker in self.site.workers()}
        return {
            pid for pid, words in found.items() if program in {Path(word).name for word in words}
        }

    def workers_are_new(self, old: set[int], all_of_them: bool = True) -> bool:
        """Return whether there are as many workers as before and none, or not all, of the old."""
        now = {worker.pid for worker in self.site.workers()}
        return len(now) == len(old) and (not now & old if all_of_them else now != old)

    # What comes of it

    @contextmanager
    def fault(self, seconds: float = 60) -> Iterator[Fault]:
        """Do what is in the block under load; then everybody is served again.

        Its end is the moment in which the fault is over. Fails if it takes longer than
        `seconds` until every client has done something that it began after that, if a write
        that was acknowledged is not there, or if a message is lost or heard twice.
        """
        fault = Fault(self.about)
        with watched(fault, lambda: self.site, self.crowd, seconds):
            yield fault
        fault.messages = self.check_nothing_is_lost()

    def check_nothing_is_lost(self) -> int:
        """Check what everybody wrote and said so far; return how many messages there are."""
        written = {key for visitor in self.crowd.visitors for key in visitor.written}
        unread = {key for visitor in self.crowd.visitors for key in visitor.unread}
        if self.crowd.readers:
            wait_until(self.all_is_read, "all notifications are heard")
            for reader in self.crowd.readers:
                assert reader.ids == sorted(set(reader.ids)), "heard twice, or out of order"
                assert len(reader.heard) == len(set(reader.heard)), "heard twice"
                assert not unread & set(reader.heard), "done, and the answer was lost"
            return len(written)
        table = "users_user where username like 'herd-%-%'"
        stored = self.ask(f"select username from {table}")
        assert written <= set(stored), "what was acknowledged is not there"
        assert len(stored) == len(set(stored))
        assert not unread & set(stored), "done, and the answer was lost"
        people = self.crowd.talk.people
        if not people:
            return 0
        said = self.crowd.talk.settle()
        messages = self.ask(
            "select key from chat_message m join chat_room r on r.id = m.room_id "
            "where r.name = 'faults' order by m.id"
        )
        assert sorted(messages) == said, "lost or stored twice"
        for person in people:
            assert person.heard == sorted(set(person.heard)), "heard twice, or out of order"
            assert person.heard == people[0].heard
        return len(said)

    def all_is_read(self) -> bool:
        heard = {reader.name: set(reader.heard) for reader in self.crowd.readers}
        return all(set(one.written) <= heard[one.name] for one in self.crowd.visitors)

    def ask(self, sql: str) -> list[str]:
        """Return the lines that the database answers, of one column."""
        if self.project.is_(database="sqlite"):
            with closing(sqlite3.connect(self.disk / "db.sqlite3")) as connection:
                return [str(value) for (value,) in connection.execute(sql)]
        name = self.variables["DATABASE_URL"].rpartition("/")[2]
        return self.database.query(sql, name).splitlines()

    def restore(self) -> None:
        """Have everything run again, whatever a test has left."""
        self.crowd.stop()
        self.release.write_text("")
        self.clock.write_text("0")
        with suppress(subprocess.CalledProcessError):
            self.redis_cli("config", "set", "min-replicas-to-write", "0")
        if self.project.is_(database="postgresql"):
            self.database_up()
        if not is_up(self.site):
            self.start_again()

    def start_again(self) -> None:
        """Start the site after its end, with what was known of it."""
        known = self.site.sessions
        with suppress(psutil.NoSuchProcess):
            self.site.process.kill()
        self.server.close()
        self.start_site()
        self.site.sessions = known


@contextmanager
def small_site(
    start: str,
    prepared: Prepare,
    folder: Path,
    command: list[str] | None = None,
    **variables: str,
) -> Iterator[Site]:
    """Run a site of one process whose pools have three threads at most."""
    project, given = prepared(SMALL)
    Scene.copy_probes(project)
    given = given | {"DJANGO_SETTINGS_MODULE": "faults_settings", "WEB_CONCURRENCY": "1"}
    given = given | {"PROBE_THREADS": "3"} | variables
    with running(project, command or SERVERS[start], folder / "log", start, **given) as site:
        # The first request brings the bounds.
        assert site.get("/probe/facts/").status_code == 200
        yield site


@contextmanager
def watched_site(site: Site, seconds: float = 60) -> Iterator[Fault]:
    """Do what is in the block while five visitors use a site that is no Scene."""
    fault, crowd = Fault(""), Crowd(site.port)
    # Several tests share its database.
    names = [f"{uuid.uuid4().hex[:8]}-{number}" for number in range(5)]
    crowd.come([(name, f"/fault/write/{name}/{{}}/") for name in names], [], [])
    try:
        with watched(fault, lambda: site, crowd, seconds):
            yield fault
    finally:
        crowd.talk.end()


def is_up(site: Site) -> bool:
    with suppress(Exception):
        return site.process.poll() is None and site.get("/health/live").status_code == 200
    return False
