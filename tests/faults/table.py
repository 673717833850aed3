"""The table in docs/faults.md: what the tests have seen, written by `--write-tables`."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.combinations import TEMPLATE, Answers

if TYPE_CHECKING:
    from tests.faults.scene import Fault

FILE = TEMPLATE / "docs" / "faults.md"
BEGIN = "<!-- begin: written by `uv run pytest -m faults --write-tables` -->"
END = "<!-- end -->"
HEAD = ["fault", "project", "what clients got", "lost", "seconds until all are served again",
        "ready", "lines in the log"]  # fmt: skip

type Line = list[str]
type Note = Callable[["Fault"], None]
noted: list[Line] = []


@dataclass(frozen=True)
class Expected:
    """A row that a test writes, and what is expected of it at most."""

    fault: str
    project: str
    # Requests that a server had read and did not answer, answers with 500, lines in the log.
    lost: int = 0
    errors: int = 0
    lines: int = 30


def named(name: str, **most: int) -> pytest.MarkDecorator:
    """Mark a test with its row of the table, and what is expected of it at most."""
    return pytest.mark.fault(name, **most)


def project_of(answers: Answers) -> str:
    """Return the name of a combination in the table."""
    database = "/sqlite" if answers["database"] == "sqlite" else ""
    return f"{answers['interface']}/{answers['realtime']}{database}"


def expected(item: Any) -> Expected:
    """Return what is expected of a test: its mark `fault`, and the project of its parameters."""
    mark = item.get_closest_marker("fault")
    assert mark, f"{item.nodeid} has no row in the table: see named()"
    parameters = item.callspec.params
    [project] = [parameters[name] for name in ("stage", "project", "start") if name in parameters]
    project = project if isinstance(project, str) else project_of(project)
    return Expected(mark.args[0], project, **mark.kwargs)


class Collector:
    """Prints what is expected, for each test that is collected."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        # In the order of the modules, and not by the site that tests share.
        items = sorted(session.items, key=lambda item: (item.path, item.reportinfo()[1]))
        rows = [asdict(expected(item)) for item in items]
        print(f"\nexpected: {json.dumps(rows)}")


def all_expected() -> list[Expected]:
    """Return the rows that all tests of this layer write, as pytest collects them."""
    code = (
        "import sys, pytest; from tests.faults.table import Collector; "
        "sys.exit(pytest.main(['-n0', '-q', '--collect-only', 'tests/faults'], [Collector()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TEMPLATE, stdout=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    line = next(one for one in done.stdout.splitlines() if one.startswith("expected: "))
    return [Expected(**row) for row in json.loads(line.partition(": ")[2])]


def note(report: pytest.TestReport) -> None:
    """Remember the lines that a test has recorded."""
    if report.when == "call":
        noted.extend(json.loads(str(v)) for name, v in report.user_properties if name == "fault")


def read() -> list[Line]:
    """Return the lines of the table, each as its cells."""
    if not FILE.exists():
        return []
    table = FILE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]


def write() -> None:
    """Write the table anew, in the order of the tests. A line that was not seen now is kept,
    unless no test writes it any more."""
    if not noted:
        return
    lines = {(line[0], line[1]): line for line in [*read(), *noted]}
    order = list(dict.fromkeys((one.fault, one.project) for one in all_expected()))
    faults = list(dict.fromkeys(fault for fault, _ in order))
    order.sort(key=lambda row: faults.index(row[0]))
    table = [lines[row] for row in order if row in lines]
    before, _, rest = FILE.read_text(encoding="utf-8").partition(BEGIN)
    written = "\n".join(f"| {' | '.join(line)} |" for line in [HEAD, ["---"] * len(HEAD), *table])
    FILE.write_text(f"{before}{BEGIN}\n{written}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
