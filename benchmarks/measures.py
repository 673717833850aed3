"""What is measured, and how: each measure takes a running server and returns its numbers."""

import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.load import impatient, sockets, warm_up, wrk
from benchmarks.projects import Server, Workshop, proportional_size
from benchmarks.subjects import SUBJECTS
from tests.services import PostgreSQL

type Numbers = dict[str, float]

# Seconds that the views wait; the same as in bench/views.py.
WAIT = 0.05
ERRORS = "errors"
# Where more is worse.
LESS_IS_BETTER = {
    "CPU ms/request", "MiB", "MiB per worker", "seconds to import", "p50 ms", "p99 ms",
    "threads", "KiB/socket", "KiB/socket in a group", "KiB/socket in the chat",
    "broadcast ms", "broadcast worst ms", "chat broadcast ms", "chat broadcast worst ms",
    "backends, async", "backends, sync", "backends after",
}  # fmt: skip


@dataclass
class Bench:
    """A server under measurement, and for how long."""

    server: Server
    workshop: Workshop
    seconds: int
    short: bool

    def http(self, path: str, connections: int = 64) -> Numbers:
        """Put load on a path; return rate, processor time and errors."""
        url = self.server.url(path)
        status = self.server.site.get(path).status_code
        assert status == 200, f"{self.server.subject.name} answers {path} with {status}"
        warm_up(url, connections, min(1, self.seconds / 2))
        for seconds in (self.seconds, 4 * self.seconds):
            # What was given up unanswered must not be counted with what follows.
            self.server.settle()
            before = self.server.cpu_seconds()
            load = wrk(url, connections, seconds)
            spent = self.server.cpu_seconds() - before
            # Too few answers make no rate: once more, for longer.
            if load.requests >= 2 * connections:
                break
        assert load.requests, f"{self.server.subject.name} answered nothing at {path}"
        return {
            "requests/s": load.per_second,
            "CPU ms/request": spent * 1000 / load.requests,
            "p50 ms": load.p50,
            "p99 ms": load.p99,
            ERRORS: load.errors,
        }


@dataclass(frozen=True)
class Measure:
    """A question to a subject."""

    name: str
    title: str
    # The first number is the one of the ratio and of the chart.
    run: Callable[[Bench], Numbers]
    # The chart it appears in, if any.
    chart: str = ""
    # The database it needs; empty: whichever the subject runs on.
    database: str = ""
    short: bool = False


def view(path: str) -> Callable[[Bench], Numbers]:
    """Measure one of the views at 64 connections."""

    def run(bench: Bench) -> Numbers:
        numbers = bench.http(f"/bench/{path}/")
        return {name: numbers[name] for name in ("requests/s", "CPU ms/request", ERRORS)}

    return run


def static(name: str) -> Callable[[Bench], Numbers]:
    """Measure a static file, fetched without compression."""

    def run(bench: Bench) -> Numbers:
        numbers = bench.http(bench.server.prepared.static[name])
        return {name: numbers[name] for name in ("requests/s", "CPU ms/request", ERRORS)}

    return run


def blocking(bench: Bench) -> Numbers:
    """Measure a view that blocks its thread. The bound: all connections served at once."""
    numbers = bench.http("/bench/blocking/")
    return {
        "requests/s": numbers["requests/s"],
        "% of bound": numbers["requests/s"] / (64 / WAIT) * 100,
        "CPU ms/request": numbers["CPU ms/request"],
        ERRORS: numbers[ERRORS],
    }


def most_threads(server: Server, seconds: int) -> int:
    """Return the highest number of threads that a worker had during so many seconds."""
    most, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        most = max([most, *(process.num_threads() for process in server.workers())])
        time.sleep(0.2)
    return most


def waiting(bench: Bench) -> Numbers:
    """Measure 500 connections whose view waits, alone and then with trivial pages beside."""
    connections = 500
    server, seconds = bench.server, bench.seconds
    url = server.url("/bench/waiting/")
    with ThreadPoolExecutor(2) as beside:
        threads = beside.submit(most_threads, server, seconds + 2)
        numbers = bench.http("/bench/waiting/", connections)
        server.settle()
        # Long enough for answers that stand in line behind those of the 500.
        seconds = max(seconds, 3)
        crowd = beside.submit(wrk, url, connections, seconds, 1)
        pages = wrk(server.url("/bench/trivial/"), 8, seconds, 1)
        crowd_errors = crowd.result().errors
    return {
        "% of bound": numbers["requests/s"] / (connections / WAIT) * 100,
        "requests/s": numbers["requests/s"],
        "CPU ms/request": numbers["CPU ms/request"],
        "threads": threads.result(),
        "pages/s beside": pages.per_second,
        ERRORS: numbers[ERRORS] + pages.errors + crowd_errors,
    }


def memory(bench: Bench) -> Numbers:
    """Measure what the processes hold after they had some load."""
    load = bench.http("/bench/trivial/")
    pages = bench.http("/bench/page/")
    workers = [proportional_size(process) for process in bench.server.workers()]
    return {
        "MiB": bench.server.mebibytes(),
        "MiB per worker": sum(workers) / len(workers),
        ERRORS: load[ERRORS] + pages[ERRORS],
    }


def start(bench: Bench) -> Numbers:
    """Measure how long a process takes to import its entry module; the best of three."""
    subject, prepared = bench.server.subject, bench.server.prepared
    variables = bench.workshop.settings_of(subject, prepared)
    package = "mysite" if subject.recipe in ("stock", "template") else "config"
    module = variables.get("BENCH_APP", f"{package}.{subject.interface}").partition(":")[0]
    times = []
    for _ in range(4):
        started = time.perf_counter()
        prepared.project.must("python", "-c", f"import {module}", **variables)
        times.append(time.perf_counter() - started)
    # The first one may have had to compile.
    return {"seconds to import": min(times[1:])}


def overload(bench: Bench) -> Numbers:
    """Measure latencies at 32 connections: four for each of the 2 times 4 emitted threads."""
    numbers = bench.http("/bench/page/", 32)
    names = ("p99 ms", "p50 ms", "requests/s", "CPU ms/request", ERRORS)
    return {name: numbers[name] for name in names}


def many_sockets(bench: Bench) -> Numbers:
    """Measure 1,000 sockets (500 in short): memory, echoes, broadcasts, pages beside."""
    count, seconds, server = 500 if bench.short else 1000, bench.seconds, bench.server
    workshop, subject = bench.workshop, server.subject
    port = server.site.port
    echo, group, chat = "/ws/bench/echo/", "/ws/bench/broadcast/", "/ws/bench/chat/all/"
    numbers = {"KiB/socket": kibibytes(server, echo, count)}
    with sockets(port, echo, 64, "echo", seconds) as held:
        numbers["echoes/s"] = held.told()["per_second"]
    if subject.recipe == "raw":
        return numbers
    with sockets(port, group, count, "broadcast", seconds) as held:
        told = held.told()
    numbers |= {"broadcast ms": told["median"], "broadcast worst ms": told["most"]}
    numbers[ERRORS] = told["missing"]
    with sockets(port, chat, count, "chat", seconds) as held:
        told = held.told()
    numbers |= {"chat broadcast ms": told["median"], "chat broadcast worst ms": told["most"]}
    numbers[ERRORS] += told["missing"]
    if bench.short:
        return numbers
    pages = next(subject for subject in SUBJECTS if subject.name == "emitted both, gunicorn")
    with workshop.start(pages, "postgresql") as half:
        other = Bench(half, workshop, seconds, bench.short)
        alone = other.http("/bench/page/")
        with sockets(port, echo, count, "talk", 0):
            beside = other.http("/bench/page/")
    numbers["pages beside, % of alone"] = beside["requests/s"] / alone["requests/s"] * 100
    for place, path in (("a group", group), ("the chat", chat)):
        with workshop.start(subject, "postgresql") as fresh:
            numbers[f"KiB/socket in {place}"] = kibibytes(fresh, path, count)
    numbers[ERRORS] += alone[ERRORS] + beside[ERRORS]
    return numbers


def kibibytes(server: Server, path: str, count: int) -> float:
    """Return what an open socket costs, on a server that has freed no memory of others."""
    with sockets(server.site.port, path, 20, "hold", 0):
        server.settle()
        before = server.mebibytes()
        with sockets(server.site.port, path, count, "hold", 0):
            server.settle()
            return (server.mebibytes() - before) * 1024 / count


def connections(bench: Bench) -> Numbers:
    """Count database backends while clients ask and go away, and after it."""
    server = bench.server
    # In short 2,000 in all, otherwise 10,000 each.
    count = 1000 if bench.short else 10_000
    numbers: Numbers = {}
    errors = 0
    with backends(bench.workshop.postgresql, server.prepared.database) as counted:
        for name, path in (("async", "/bench/rows-async/"), ("sync", "/bench/page/")):
            most = 0
            with ThreadPoolExecutor(1) as beside:
                work = beside.submit(impatient, server.site.port, path, count)
                while not work.done():
                    most = max(most, counted())
                    time.sleep(0.05)
                errors += work.result()
            numbers[f"backends, {name}"] = most
        server.settle()
        return numbers | {"backends after": counted(), ERRORS: errors}


@contextmanager
def backends(postgresql: PostgreSQL, database: str) -> Iterator[Callable[[], int]]:
    """Yield a function that counts the backends of a database.

    It asks on one connection, which it has even when the server has no other left.
    """
    sql = f"select count(*) from pg_stat_activity where datname = '{database}';\n"
    with subprocess.Popen(
        [postgresql.programs / "psql", "-XAt", "-h", "127.0.0.1", "-p", str(postgresql.port),
         "-U", "postgres", "postgres"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as psql:  # fmt: skip

        def counted() -> int:
            assert psql.stdin
            assert psql.stdout
            psql.stdin.write(sql)
            psql.stdin.flush()
            return int(psql.stdout.readline())

        # Connected before others take all the places.
        counted()
        yield counted
        assert psql.stdin
        psql.stdin.close()


MEASURES = [
    Measure("trivial", "A sync view that answers ok", view("trivial"), "pages", short=True),
    Measure(
        "page-sqlite", "A page with three queries on SQLite", view("page"), "pages", "sqlite"
    ),
    Measure(
        "page-postgresql", "A page with three queries on PostgreSQL", view("page"), "pages",
        "postgresql", short=True,
    ),
    Measure("async", "An async view that answers ok", view("trivial-async"), "async", short=True),
    Measure(
        "waiting", "An async view that waits 50 ms, at 500 connections", waiting, "waiting",
        short=True,
    ),
    Measure("blocking", "A sync view that blocks for 50 ms", blocking, "waiting"),
    Measure("static-10k", "A stylesheet of 10 KiB", static("10k.css"), "static", short=True),
    Measure("static-1m", "A file of 1 MiB", static("1m.css"), "static"),
    Measure("memory", "Memory of all processes after load", memory, "memory"),
    Measure("start", "Importing the entry module", start, "memory"),
    Measure(
        "overload", "A page at 32 connections", overload, database="postgresql"
    ),
    Measure(
        "connections", "Database connections while clients go away", connections,
        database="postgresql", short=True,
    ),
    Measure("sockets", "1,000 open WebSockets (500 in short)", many_sockets, "sockets", short=True),
]  # fmt: skip
