"""The benchmark ends in time, whatever it measures, and tells what had no number."""

import socket
import subprocess
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import charts, load, projects, report
from benchmarks.__main__ import Run
from benchmarks.limits import NoAnswerError, limited, nothing_left
from benchmarks.measures import Bench, Measure, Numbers, backends, connections
from benchmarks.projects import Prepared, Server
from benchmarks.subjects import SUBJECTS, Subject
from tests import services
from tests.project import Project
from tests.services import PostgreSQL, answers, free_port, wait_until
from tests.site import Site

pytestmark = pytest.mark.bake

SUBJECT = next(subject for subject in SUBJECTS if subject.name == "stock wsgi")
# Answers every request, or ends at the first, or never answers; see its second argument.
HTTP = """
import http.server, os, subprocess, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, what = 200, sys.argv[2]
        if self.path == "/end" or what == "ends":
            os._exit(3)
        if what == "hangs":
            time.sleep(60)
        if any(psql.poll() for psql in HELD):
            status = 500
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *words):
        pass

# Asks for eight connections to a database, of which three are refused.
HELD = [
    subprocess.Popen([sys.argv[3], "-Xqc", "select pg_sleep(60)", sys.argv[2]])
    for _ in range(8 if sys.argv[2].startswith("postgresql") else 0)
]
while HELD and sum(psql.poll() is not None for psql in HELD) < 3:
    time.sleep(0.02)

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
# Counts nothing and, in passing, sends one request.
WRK = """#!/bin/sh
for url; do :; done
{} -c "import sys, urllib.request as r; r.urlopen(sys.argv[1]).read()" "$url" 2>/dev/null
echo '{{"requests":0,"duration":1,"connect":0,"read":0,"write":0,"status":0,"timeout":0,"p50":0,"p99":0}}'
"""  # noqa: E501


class Workshop:
    """Starts a small server in place of a subject."""

    def __init__(self, folder: Path, does: str = "answers", *words: object) -> None:
        self.folder, self.does, self.words = folder, does, words
        self.starts = 0
        self.postgresql: PostgreSQL | None = None
        self.database = ""

    @contextmanager
    def start(self, subject: Subject, database: str) -> Iterator[Server]:
        self.starts += 1
        port = free_port()
        words = [sys.executable, "-c", HTTP, port, self.does, *self.words]
        process = subprocess.Popen([str(word) for word in words], stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: answers(port), "the small server listens")
            project = Project(self.folder, {})
            site = Site(project, process, port, self.folder / "log", "")
            yield Server(subject, Prepared(project, {}, {}, self.database), site)
        finally:
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children():
                    child.kill()
            process.kill()
            process.wait()


def measured(workshop: Workshop, *runs: Callable[[Bench], Numbers], limit: float = 20) -> Run:
    """Run one round of measures, which have the names of their functions."""
    measures = [Measure(run.__name__, run.__name__, run) for run in runs]
    run = Run(Namespace(rounds=1, seconds=0, short=True), [(SUBJECT, "sqlite", measures)])
    run.limit = limit
    before = set(psutil.Process().children(recursive=True)), set(threading.enumerate())
    run.measure(workshop)  # type: ignore[arg-type]
    after = set(psutil.Process().children(recursive=True)), set(threading.enumerate())
    assert after == before, "a process or a thread is left"
    return run


def fine(bench: Bench) -> Numbers:
    return {"pid": bench.server.site.process.pid}


def told(run: Run, measure: str) -> str:
    (sentence,) = run.failures[measure][SUBJECT.name]
    return sentence


def test_measure_that_hangs_is_ended_in_time_and_told(tmp_path: Path) -> None:
    def hangs(bench: Bench) -> Numbers:
        subprocess.Popen(["sleep", "60"])
        with load.process("sh", "-c", "sleep 60 & wait") as running:
            running.wait()
        return {}

    run = measured(Workshop(tmp_path), hangs, fine, limit=0.5)
    assert told(run, "hangs") == "round 1: no end within 0.5 s"
    assert run.results["fine"][SUBJECT.name]
    assert run.done == run.total == 2


def test_what_is_hung_in_a_read_of_a_silent_server_is_ended(tmp_path: Path) -> None:
    def silent(bench: Bench) -> Numbers:
        return bench.http("/")

    run = measured(Workshop(tmp_path, "hangs"), silent, limit=0.5)
    assert told(run, "silent") == "round 1: no end within 0.5 s"


def test_measure_after_a_failed_one_has_a_server_of_its_own(tmp_path: Path) -> None:
    pids = []

    def broken(bench: Bench) -> Numbers:
        pids.append(bench.server.site.process.pid)
        raise RuntimeError("FATAL:  sorry, too many clients already")

    workshop = Workshop(tmp_path)
    run = measured(workshop, broken, fine)
    assert told(run, "broken") == "round 1: failed: FATAL:  sorry, too many clients already"
    assert workshop.starts == 2
    assert run.results["fine"][SUBJECT.name]["pid"] != pids


def test_server_that_does_not_start_is_told_for_each_measure(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    workshop.start = lambda *_: (_ for _ in ()).throw(OSError("no such program"))  # type: ignore
    run = measured(workshop, fine)
    assert told(run, "fine") == "round 1, does not start: failed: no such program"


@pytest.fixture
def poor_wrk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrk in PATH that counts no answer."""
    program = tmp_path / "bin" / "wrk"
    program.parent.mkdir()
    program.write_text(WRK.format(sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


@pytest.mark.usefixtures("poor_wrk")
def test_server_that_answers_nothing_in_time_is_told(tmp_path: Path) -> None:
    def mute(bench: Bench) -> Numbers:
        return bench.http("/")

    run = measured(Workshop(tmp_path), mute)
    assert told(run, "mute") == "round 1: no answer within 0 s at /"


@pytest.mark.usefixtures("poor_wrk")
def test_server_that_ends_under_load_is_told(tmp_path: Path) -> None:
    def ends(bench: Bench) -> Numbers:
        bench.second(bench.server.url("/end"), 1, 1, None)
        return {}

    run = measured(Workshop(tmp_path), ends, fine)
    assert told(run, "ends") == "round 1: failed: the server ended with 3"
    assert run.results["fine"][SUBJECT.name]


def test_requests_that_nobody_accepts_count_as_not_worked_off(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = Server(SUBJECT, None, Namespace(port=port))  # type: ignore[arg-type]
        server.drain(0)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(NoAnswerError, match="1 requests given up"):
            server.drain(0.1)
        listener.accept()[0].close()
        server.drain()


def test_exhausted_postgresql_is_counted_and_told(tmp_path: Path) -> None:
    """Where the site may have five connections, the measure still counts and ends."""
    with (
        tempfile.TemporaryDirectory(prefix="tests-benchmarks-") as name,
        services.postgresql(Path(name)) as postgresql,
    ):
        restart_with_five(postgresql, Path(name))
        postgresql.query("create role site login", "postgres")
        psql = postgresql.programs / "psql"
        url = f"postgresql://site@127.0.0.1:{postgresql.port}/postgres"
        workshop = Workshop(tmp_path, url, psql)
        workshop.postgresql, workshop.database = postgresql, "postgres"

        def exhausted(bench: Bench) -> Numbers:
            return connections(bench)

        def hurried(bench: Bench) -> Numbers:
            return connections(bench, seconds=0)

        results = measured(workshop, exhausted, hurried).results
    numbers = results["exhausted"][SUBJECT.name]
    # With the connection that counts, which is of the same database here.
    assert numbers["backends, sync"] == [6]
    assert numbers["errors"] == [1000]
    assert "not sent" not in numbers
    assert results["hurried"][SUBJECT.name]["not sent"] == [2000]


def restart_with_five(postgresql: PostgreSQL, folder: Path) -> None:
    """Leave five of the 200 connections to those that are no superusers."""
    postgresql.query("alter system set superuser_reserved_connections = 195", "postgres")
    words: list[Any] = [postgresql.programs / "pg_ctl", "-w", "-m", "fast", "-D", folder / "data"]
    owner = (folder / "data").owner()
    subprocess.run(
        [*words, "-l", folder / "log", "restart"],
        check=True, user=owner if psutil.Process().uids().effective == 0 else None,
        stdout=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip


def test_counting_tells_why_it_cannot_count(tmp_path: Path) -> None:
    program = tmp_path / "psql"
    program.write_text("#!/bin/sh\necho 'FATAL:  sorry, too many clients already' >&2\nexit 2\n")
    program.chmod(0o755)
    with (
        pytest.raises(AssertionError, match="too many clients"),
        backends(PostgreSQL(tmp_path, 1), "site"),
    ):
        pass


def test_time_limit_ends_with_its_block() -> None:
    with limited(0.05):
        pass
    time.sleep(0.1)
    with pytest.raises(NoAnswerError), nothing_left(), limited(0.05):
        time.sleep(5)


def test_report_charts_and_json_tell_what_had_no_number() -> None:
    failures: report.Failures = {"trivial": {"best known wsgi": ["round 1: no answer within 4 s"]}}
    failures["trivial"]["stock wsgi"] = ["round 2: failed: too many connections"]
    results: report.Results = {"trivial": {"stock wsgi": {"requests/s": [100.0]}}}
    lines = report.markdown(results, {}, failures).splitlines()
    (partly,) = (line for line in lines if line.startswith("| ⚠ stock wsgi |"))
    (wholly,) = (line for line in lines if line.startswith("| ⚠ best known wsgi |"))
    assert "100" in partly
    assert "round 2: failed: too many connections" in partly
    assert "round 1: no answer within 4 s" in wholly
    drawn = charts.svg("pages", results, failures)
    assert "best known wsgi" in drawn
    assert drawn.count("⚠ no number") == 1
    # A measure of which there is nothing but that.
    only: report.Failures = {"blocking": {"stock wsgi": ["round 1: failed: refused"]}}
    assert "round 1: failed: refused" in report.markdown({}, {}, only)
    assert "⚠ no number" in charts.svg("waiting", {}, only)


@pytest.mark.parametrize("name", ["stock wsgi", "stock asgi"])
def test_what_is_compared_with_is_there(name: str, tmp_path: Path) -> None:
    """Django as it ships, with this template's page: without it there is no ratio."""
    subject = next(subject for subject in SUBJECTS if subject.name == name)

    with projects.Workshop(tmp_path) as workshop, workshop.start(subject, "sqlite") as server:
        assert "site." in server.site.get("/bench/page/").text
        assert server.site.get("/bench/trivial/").text == "ok"
