"""The table in docs/fidelity.md: what the tests have measured, written by `--write-tables`."""

import importlib
import json

import pytest

from tests.combinations import TEMPLATE
from tests.fidelity.rows import ROWS

FILE = TEMPLATE / "docs" / "fidelity.md"
BEGIN = "<!-- begin: written by `uv run pytest -m fidelity --write-tables` -->"
END = "<!-- end -->"
HEAD = ["case", "server", "here", "Django as it ships", "here it is"]

type Line = list[str]
noted: list[tuple[str, list[Line]]] = []


def note(report: pytest.TestReport) -> None:
    """Remember the lines that a test has recorded."""
    if report.when == "call":
        for name, value in report.user_properties:
            if name == "fidelity":
                noted.append((report.nodeid, json.loads(str(value))))


def read() -> list[Line]:
    """Return the lines of the table, each as its cells."""
    table = FILE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]


def cases() -> list[str]:
    """Return the cases that are measured, in their order."""
    importlib.import_module("tests.test_fidelity")
    return [row.case for row in ROWS.values()]


def write() -> None:
    """Write the table anew. A case that was not measured now keeps its line.

    A case that was measured in both projects is shown as in that of ASGI, unless it is worse
    in the other.
    """
    order = cases()
    fresh: dict[tuple[str, str], Line] = {}
    for _, lines in sorted(noted, key=lambda item: "[both" in item[0]):
        for line in lines:
            if line[-1] == "worse" or (line[0], line[1]) not in fresh:
                fresh[line[0], line[1]] = line
    kept = {(line[0], line[1]): line for line in read() if line[0] in order}
    table = sorted((kept | fresh).values(), key=lambda line: order.index(line[0]))
    before, _, rest = FILE.read_text(encoding="utf-8").partition(BEGIN)
    written = "\n".join(f"| {' | '.join(line)} |" for line in [HEAD, ["---"] * len(HEAD), *table])
    FILE.write_text(f"{before}{BEGIN}\n{written}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
