"""What is measured, and how: each measure takes a running server and returns its numbers."""

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from benchmarks.limits import NoAnswerError
from benchmarks.load import Load, impatient, sockets, warm_up, wrk
from benchmarks.projects import Server, Workshop, proportional_size
from benchmarks.subjects import SUBJECTS
from tests.services import PostgreSQL

type Numbers = dict[str, float]

# Seconds that the views wait; the same as in bench/views.py.
WAIT = 0.05
ERRORS = "errors"
# Of all that runs on this machine: client, servers and database.
MACHINE = "machine CPU ms/request"
# Of the workers' processor time; 50 would be even between two, 100 is one that does it all.
BUSIEST = "busiest worker %"
# Seconds that a measure may take before it is given up, besides 20 for each second of load.
LIMIT = 300
# Where more is worse.
LESS_IS_BETTER = {
    "CPU ms/request", MACHINE, "MiB", "MiB per worker", "seconds to import", "p50 ms", "p99 ms",
    "threads", "KiB/socket", "KiB/socket in a group", "KiB/socket in the chat",
    "broadcast ms", "broadcast worst ms", "chat broadcast ms", "chat broadcast worst ms",
    "backends, async", "backends, sync", "backends after", "not sent", BUSIEST,
    "CPU of a page beside, % of alone", "% of a CPU for talking sockets",
}  # fmt: skip
# What is no merit, and has no ratio.
NO_RATIO = {BUSIEST, "not sent", "CPU of a page beside, % of alone"}


@dataclass
class Bench:
    """A server under measurement, and for how long."""

    server: Server
    workshop: Workshop
    seconds: int
    short: bool

    def http(
        self, path: str, connections: int = 64, meanwhile: Callable[[], object] | None = None
    ) -> Numbers:
        """Put load on a path; return rate, processor time and errors.

        It is put on anew each second, and the median is taken: which worker gets how many of
        the connections is decided by chance when they are opened, and then stays so.
        """
        url = self.server.url(path)
        status = self.server.site.get(path).status_code
        assert status == 200, f"{self.server.subject.name} answers {path} with {status}"
        warm_up(url, connections, min(1, self.seconds / 2))
        # What was given up unanswered must not be counted with what follows.
        self.server.drain()
        self.server.settle()
        found = [self.second(url, connections, 1, meanwhile)]
        if found[0].load.requests < 2 * connections:
            # Too few answers make no rate: once more, for longer.
            found = [self.second(url, connections, 4 * self.seconds, meanwhile)]
        else:
            found += [self.second(url, connections, 1, meanwhile) for _ in range(1, self.seconds)]
        if not found[0].load.requests:
            raise NoAnswerError(f"no answer within {4 * self.seconds} s at {path}")
        return {
            "requests/s": statistics.median(one.load.per_second for one in found),
            "CPU ms/request": statistics.median(one.cpu_ms for one in found),
            MACHINE: statistics.median(one.machine_cpu_ms for one in found),
            BUSIEST: max(one.busiest for one in found),
            "p50 ms": statistics.median(one.load.p50 for one in found),
            "p99 ms": statistics.median(one.load.p99 for one in found),
            ERRORS: sum(one.load.errors for one in found),
        }

    def second(
        self, url: str, connections: int, seconds: int, meanwhile: Callable[[], object] | None
    ) -> "Spent":
        """Put load on once, for a second or more."""
        before, machine_before = self.server.cpu_times(), busy_seconds()
        with wrk(url, connections, seconds) as running:
            load = running.load(meanwhile)
        machine = busy_seconds() - machine_before
        if self.server.ended():
            raise RuntimeError(f"the server ended with {self.server.site.process.returncode}")
        after = self.server.cpu_times()
        spent = {pid: after[pid] - before.get(pid, 0) for pid in after}
        workers = [spent.get(worker.pid, 0.0) for worker in self.server.workers()]
        self.server.drain()
        return Spent(
            load=load,
            cpu_ms=sum(spent.values()) * 1000 / max(load.requests, 1),
            machine_cpu_ms=machine * 1000 / max(load.requests, 1),
            busiest=max(workers, default=0) / (sum(workers) or 1) * 100,
        )


@dataclass(frozen=True)
class Spent:
    """What came of some load, and what it cost the server."""

    load: Load
    cpu_ms: float
    machine_cpu_ms: float
    busiest: float


def busy_seconds() -> float:
    """Return for how long this machine's processors have been busy, in seconds."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


RATE = ("requests/s", "CPU ms/request", MACHINE, BUSIEST, ERRORS)


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
        return {name: numbers[name] for name in RATE}

    return run


def static(name: str) -> Callable[[Bench], Numbers]:
    """Measure a static file, fetched without compression."""

    def run(bench: Bench) -> Numbers:
        numbers = bench.http(bench.server.prepared.static[name])
        return {name: numbers[name] for name in RATE}

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


def waiting(bench: Bench) -> Numbers:
    """Measure 500 connections whose view waits, alone and then with trivial pages beside."""
    connections = 500
    server = bench.server
    threads = 0

    def count_threads() -> None:
        nonlocal threads
        threads = max([threads, *(process.num_threads() for process in server.workers())])

    numbers = bench.http("/bench/waiting/", connections, count_threads)
    # So few that processors are not what they wait for.
    few = bench.http("/bench/waiting/", 100)
    server.settle()
    # Long enough for answers that stand in line behind those of the 500.
    seconds = max(bench.seconds, 3)
    with (
        wrk(server.url("/bench/waiting/"), connections, seconds, 1) as crowd,
        wrk(server.url("/bench/trivial/"), 8, seconds, 1) as beside,
    ):
        pages, crowd_errors = beside.load(), crowd.load().errors
    return {
        "% of bound": numbers["requests/s"] / (connections / WAIT) * 100,
        "requests/s": numbers["requests/s"],
        "% of bound at 100 connections": few["requests/s"] / (100 / WAIT) * 100,
        "CPU ms/request": numbers["CPU ms/request"],
        "threads": threads,
        "pages/s beside": pages.per_second,
        ERRORS: numbers[ERRORS] + few[ERRORS] + pages.errors + crowd_errors,
    }


def memory(bench: Bench) -> Numbers:
    """Measure what the processes hold after they had some load."""
    errors = 0
    for path in ("/bench/trivial/", "/bench/page/"):
        with wrk(bench.server.url(path), 64, 1) as load:
            errors += load.load().errors
    bench.server.drain()
    workers = [proportional_size(process) for process in bench.server.workers()]
    return {
        "MiB": bench.server.mebibytes(),
        "MiB per worker": sum(workers) / len(workers),
        ERRORS: errors,
    }


def start(bench: Bench) -> Numbers:
    """Measure how long a process takes to import its entry module; the best of two."""
    subject, prepared = bench.server.subject, bench.server.prepared
    variables = bench.workshop.settings_of(subject, prepared)
    package = "mysite" if subject.recipe in ("stock", "template") else "config"
    module = variables.get("BENCH_APP", f"{package}.{subject.interface}").partition(":")[0]
    times = []
    for _ in range(3):
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
    numbers |= pages_beside(bench, count)
    numbers[ERRORS] += numbers.pop("pages' errors")
    for place, path in (("a group", group), ("the chat", chat)):
        with workshop.start(subject, "postgresql") as fresh:
            numbers[f"KiB/socket in {place}"] = kibibytes(fresh, path, count)
    return numbers


def pages_beside(bench: Bench, count: int) -> Numbers:
    """Measure gunicorn's pages while sockets talk, and what that is not the sockets' fault.

    The clients and any server that answers them take processor time from pages on the same
    machine. So the same clients also talk to a server that has nothing in common with the
    site but the machine, and the pages beside that one are the reference.
    """
    workshop, site = bench.workshop, bench.server
    by_name = {subject.name: subject for subject in SUBJECTS}
    with (
        workshop.start(by_name["emitted both, gunicorn"], "postgresql") as half,
        workshop.start(by_name["raw asgi"], "sqlite") as stranger,
    ):
        pages = Bench(half, workshop, 1, bench.short)
        found: dict[str, list[Numbers]] = {"alone": [], "site": [], "stranger": []}
        shares = []
        # In turn, so that a noisy minute meets all three.
        for _ in range(max(3, bench.seconds)):
            found["alone"].append(pages.http("/bench/page/"))
            for name, server in (("site", site), ("stranger", stranger)):
                with sockets(server.site.port, "/ws/bench/echo/", count, "talk", 0):
                    before, started = server.cpu_seconds(), time.monotonic()
                    found[name].append(pages.http("/bench/page/"))
                    spent = server.cpu_seconds() - before
                if server is site:
                    shares.append(spent / (time.monotonic() - started) * 100)

    def middle(name: str, metric: str) -> float:
        return statistics.median(numbers[metric] for numbers in found[name])

    rate, cpu = "requests/s", "CPU ms/request"
    return {
        "pages beside, % of those beside a stranger": (
            middle("site", rate) / middle("stranger", rate) * 100
        ),
        "CPU of a page beside, % of alone": middle("site", cpu) / middle("alone", cpu) * 100,
        "% of a CPU for talking sockets": statistics.median(shares),
        "pages' errors": sum(one[ERRORS] for numbers in found.values() for one in numbers),
    }


def kibibytes(server: Server, path: str, count: int) -> float:
    """Return what an open socket costs, on a server that has freed no memory of others."""
    with sockets(server.site.port, path, 20, "hold", 0):
        server.settle()
        before = server.mebibytes()
        with sockets(server.site.port, path, count, "hold", 0):
            server.settle()
            return (server.mebibytes() - before) * 1024 / count


def connections(bench: Bench, seconds: int = 30) -> Numbers:
    """Count database backends while clients ask and go away, and after it.

    Whoever has not answered all within so many seconds is asked no further.
    """
    server = bench.server
    # In short 2,000 in all, otherwise 10,000 each.
    count = 1000 if bench.short else 10_000
    numbers: Numbers = {}
    errors = unsent = 0
    with backends(bench.workshop.postgresql, server.prepared.database) as counted:
        for name, path in (("async", "/bench/rows-async/"), ("sync", "/bench/page/")):
            most = 0

            def look() -> None:
                nonlocal most
                most = max(most, counted())

            sent, wrong = impatient(server.site.port, path, count, seconds, look)
            errors += wrong
            unsent += count - sent
            numbers[f"backends, {name}"] = most
        server.settle()
        numbers |= {"backends after": counted(), ERRORS: errors}
    return numbers | ({"not sent": unsent} if unsent else {})


@contextmanager
def backends(postgresql: PostgreSQL, database: str) -> Iterator[Callable[[], int]]:
    """Yield a function that counts the backends of a database.

    It asks on one connection, of those that PostgreSQL keeps for a superuser.
    """
    sql = f"select count(*) from pg_stat_activity where datname = '{database}';\n"
    with subprocess.Popen(
        [postgresql.programs / "psql", "-XAt", "-h", "127.0.0.1", "-p", str(postgresql.port),
         "-U", "postgres", "postgres"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        bufsize=1,
    ) as psql:  # fmt: skip

        def counted() -> int:
            assert psql.stdin
            assert psql.stdout
            with suppress(BrokenPipeError):
                psql.stdin.write(sql)
                psql.stdin.flush()
            told = psql.stdout.readline().strip()
            # Anything else is why there is no answer: too many clients already.
            assert told.isdecimal(), told or "psql ended"
            return int(told)

        try:
            counted()
            yield counted
        finally:
            psql.kill()
            # What it could not be told any more is of no interest.
            with suppress(BrokenPipeError):
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
