"""The table in docs/faults.md: what the tests have seen, written by `--write-tables`."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.combinations import TEMPLATE

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
    """Write the table anew. A line that was not seen now is kept, new faults come last."""
    if not noted:
        return
    lines = {(line[0], line[1]): line for line in read()}
    lines |= {(line[0], line[1]): line for line in noted}
    order = list(dict.fromkeys(line[0] for line in lines.values()))
    table = sorted(lines.values(), key=lambda line: (order.index(line[0]), line[1] != "wsgi/none"))
    before, _, rest = FILE.read_text(encoding="utf-8").partition(BEGIN)
    written = "\n".join(f"| {' | '.join(line)} |" for line in [HEAD, ["---"] * len(HEAD), *table])
    FILE.write_text(f"{before}{BEGIN}\n{written}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
