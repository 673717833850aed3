"""`uv run benchmarks`: bake the projects, serve them as in production, and measure."""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path

HERE = Path(__file__).resolve().parent
# uv puts this folder on the path; the modules in it, and `tests`, are found from the root.
sys.path[0] = str(HERE.parent)


from benchmarks import charts, report
from benchmarks.limits import limited, nothing_left, reason
from benchmarks.measures import ERRORS, LIMIT, MEASURES, Bench, Measure
from benchmarks.projects import Server, Workshop
from benchmarks.subjects import SUBJECTS, Subject

PROGRAMS = {"wrk": "wrk", "redis-server": "redis-server", "psql": "postgresql"}


def arguments() -> argparse.Namespace:
    """Return what was asked for on the command line."""
    parser = argparse.ArgumentParser(
        prog="uv run benchmarks", description="Measure what this template emits."
    )
    parser.add_argument(
        "--short", action="store_true", help="the main ratios, printed; under 3 minutes"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME",
        help="subjects or measures with this in their names; may be given several times",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, help="how often each is measured (3; short: 1)")
    parser.add_argument("--seconds", type=int, help="of load in each measure (5; short: 1)")
    parser.add_argument("--output", type=Path, help="folder for the results (benchmarks/results)")
    parser.add_argument("--list", action="store_true", help="name subjects and measures")
    asked = parser.parse_args()
    asked.rounds = asked.rounds if asked.rounds is not None else 1 if asked.short else 3
    asked.seconds = asked.seconds if asked.seconds is not None else 1 if asked.short else 5
    if asked.rounds < 1 or asked.seconds < 1:
        parser.error("--rounds and --seconds are whole numbers from 1 on")
    return asked


type Step = tuple[Subject, str, list[Measure]]


def plan(only: list[str], short: bool) -> list[Step]:
    """Return one round: which subject runs on which database, and what is measured of it.

    Ends with a sentence if a name in `only` is nobody's.
    """
    subjects = [subject for subject in SUBJECTS if subject.short or not short]
    measures = [measure for measure in MEASURES if measure.short or not short]
    wanted_measures = [m for m in measures if any(name in m.name for name in only)]
    # A name that means a measure chooses no subjects: sockets is measured of several.
    others = [name for name in only if not any(name in m.name for m in measures)]
    wanted_subjects = [s for s in subjects if any(name in s.name for name in others)]
    known = [subject.name for subject in subjects] + [measure.name for measure in measures]
    for name in only:
        if not any(name in one for one in known):
            sys.exit(f"Nothing here has {name!r} in its name; see uv run benchmarks --list.")
    steps: dict[tuple[str, str], Step] = {}
    for subject in wanted_subjects or subjects:
        # In short all is measured on one start of the server, on PostgreSQL.
        usual = subject.databases[-1 if short else 0]
        for measure in wanted_measures or measures:
            if measure.name not in subject.measures:
                continue
            database = measure.database or usual
            if database in subject.databases:
                step = steps.setdefault((subject.name, database), (subject, database, []))
                step[2].append(measure)
    if not steps:
        sys.exit("No subject with such a name is measured so; see uv run benchmarks --list.")
    return list(steps.values())


def show_list() -> None:
    print("Subjects, and in what they differ:\n")
    for subject in SUBJECTS:
        against = f" (than {subject.against})" if subject.against != subject.name else ""
        print(f"  {subject.name:<24} {subject.differs}{against}")
        print(f"  {'':<24} $ {subject.command}")
    print("\nMeasures:\n")
    for measure in MEASURES:
        print(f"  {measure.name:<24} {measure.title}")
    print("\n--short takes these subjects and measures:\n")
    print(f"  {', '.join(subject.name for subject in SUBJECTS if subject.short)}")
    print(f"  {', '.join(measure.name for measure in MEASURES if measure.short)}")


def require_programs() -> None:
    """End with a sentence if the machine lacks something."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    lacks = {
        package
        for program, package in PROGRAMS.items()
        if not shutil.which(program, path=path)
    }  # fmt: skip
    if lacks:
        packages = " ".join(sorted(lacks))
        sys.exit(f"Not on this machine: {packages}. Install: apt-get install {packages}")
    # Two thousand connections, on both ends.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    if wanted < 2048:
        sys.exit("This shell allows too few open files; try `ulimit -n 8192` first.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Run:
    """Everything that one command measures."""

    def __init__(self, asked: argparse.Namespace, steps: list[Step]) -> None:
        self.asked = asked
        self.steps = steps
        # Seconds that a measure may take, besides those that grow with the load.
        self.limit: float = LIMIT
        self.results: report.Results = {}
        self.failures: report.Failures = {}
        self.started = time.monotonic()
        self.measuring = 0.0
        self.done = 0
        self.total = asked.rounds * sum(len(measures) for _, _, measures in steps)

    def say(self, words: str) -> None:
        """Tell of a step: how many are done, how long it took, how long it may still take."""
        now = time.monotonic()
        left = ""
        if self.done >= 3 and self.measuring:
            each = (now - self.measuring) / self.done
            left = f", about {minutes(each * (self.total - self.done))} left"
        clock = f"[{self.done:>3}/{self.total} {minutes(now - self.started)}{left}]"
        print(f"{clock:<34} {words}", flush=True)

    def fail(self, measure: Measure, subject: Subject, when: str, error: Exception) -> None:
        """Note why there is no number; that is a result too."""
        told = self.failures.setdefault(measure.name, {}).setdefault(subject.name, [])
        told.append(f"{when}: {reason(error)}")
        self.say(f"NO NUMBER  {subject.name}  {measure.name}  {told[-1]}")

    def prepare(self, workshop: Workshop) -> None:
        """Make all projects before the first is measured; leave out what cannot be made."""
        fit = []
        for subject, database, measures in self.steps:
            self.say(f"prepare {subject.name} on {database}")
            try:
                workshop.prepare(subject, database)
                fit.append((subject, database, measures))
            except Exception as error:
                for measure in measures:
                    self.fail(measure, subject, "not prepared", error)
                self.total -= self.asked.rounds * len(measures)
        self.steps = fit
        self.measuring = time.monotonic()

    def measure(self, workshop: Workshop) -> None:
        """Measure everything once a round, so that a noisy minute meets everybody."""
        for number in range(1, self.asked.rounds + 1):
            for subject, database, measures in self.steps:
                self.subject(f"round {number}", workshop, subject, database, measures)

    def subject(
        self, when: str, workshop: Workshop, subject: Subject, database: str,
        measures: list[Measure],
    ) -> None:  # fmt: skip
        """Measure one subject on one start, and on a new one after a measure that failed."""
        server: Server | None = None
        with ExitStack() as stack:
            for measure in measures:
                try:
                    # A server's log, printed when it does not start; the sentence suffices.
                    with redirect_stdout(StringIO()):
                        server = server or stack.enter_context(workshop.start(subject, database))
                except Exception as error:
                    self.done += 1
                    self.fail(measure, subject, f"{when}, does not start", error)
                    continue
                bench = Bench(server, workshop, self.asked.seconds, self.asked.short)
                if not self.one(when, bench, measure):
                    # Whatever is still going on in it is not the next measure's.
                    stack.close()
                    server = None

    def one(self, when: str, bench: Bench, measure: Measure) -> bool:
        """Measure one thing and say what came of it; return whether anything did."""
        subject = bench.server.subject
        try:
            with (
                redirect_stdout(StringIO()),
                nothing_left(),
                limited(self.limit + 20 * self.asked.seconds),
            ):
                numbers = measure.run(bench)
        except Exception as error:
            # Whatever it is: an hour of results is not lost to one of them.
            self.done += 1
            self.fail(measure, subject, when, error)
            return False
        self.done += 1
        found = self.results.setdefault(measure.name, {}).setdefault(subject.name, {})
        for name, value in numbers.items():
            found.setdefault(name, []).append(value)
        first = next(iter(numbers))
        errors = numbers.get(ERRORS, 0)
        marked = f"  {errors:,.0f} ERRORS" if errors else ""
        what = f"{when}  {subject.name}  {measure.name}"
        self.say(f"{what}  {report.number(numbers[first])} {first}{marked}")
        return True


def minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def write(folder: Path, run: Run, facts: dict[str, str]) -> None:
    """Write the results as JSON, Markdown and charts."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"machine": facts, "results": run.results, "failures": run.failures}
    (folder / "newest.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    (folder / "newest.md").write_text(report.markdown(run.results, facts, run.failures))
    for name in charts.TITLES:
        if drawn := charts.svg(name, run.results, run.failures):
            (folder / f"{name}.svg").write_text(drawn)
    print(f"Written to {folder}")


def main() -> None:
    # As Ctrl+C: the servers are stopped and the folder is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asked = arguments()
    if asked.list:
        show_list()
        return
    steps = plan(asked.only, asked.short)
    require_programs()
    command = " ".join(["uv run benchmarks", *sys.argv[1:]])
    output = asked.output or (None if asked.short else HERE / "results")
    run = Run(asked, steps)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        with Workshop(Path(folder)) as workshop:
            run.prepare(workshop)
            facts = report.machine(workshop, command)
            run.measure(workshop)
        print("\n" + report.plain(report.markdown(run.results, facts, run.failures)))
        if output:
            write(output, run, facts)
    sys.exit(1 if run.failures else 0)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted; nothing was written.")
