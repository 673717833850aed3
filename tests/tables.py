"""Tables in docs/ that are made of what tests have measured.

A test records its lines, with `record_property("fidelity", …)`; `pytest --write-tables` puts
them between the comments that have that name, in the order of the tests.
"""

import json
import re

import pytest

from tests.combinations import TEMPLATE

# The name under which lines are recorded, and the file they are written to.
FILES = {"fidelity": "docs/fidelity.md"}
HEADS = {"fidelity": ["case", "server", "here", "Django as it ships", "here it is"]}

noted: dict[str, dict[str, list[list[str]]]] = {name: {} for name in FILES}


def note(report: pytest.TestReport) -> None:
    """Remember what a test recorded."""
    for name, value in report.user_properties:
        if report.when == "call" and name in noted:
            noted[name][report.nodeid] = json.loads(str(value))


def write() -> None:
    """Write the tables of which there are new lines; what was not measured now stays."""
    for name, tests in noted.items():
        if tests:
            lines = {(line[0], line[1]): line for line in read(name)}
            # The first project in which a case was measured is the one that is shown, but
            # for one that is worse.
            fresh: dict[tuple[str, str], list[str]] = {}
            for _, measured in sorted(tests.items(), key=lambda item: "[both" in item[0]):
                for line in measured:
                    if line[-1] == "worse" or (line[0], line[1]) not in fresh:
                        fresh[line[0], line[1]] = line
            replace(name, list((lines | fresh).values()))


def mark(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin, written by pytest --write-tables -->", f"<!-- {name}: end -->"


def text(name: str) -> str:
    return (TEMPLATE / FILES[name]).read_text(encoding="utf-8")


def read(name: str) -> list[list[str]]:
    """Return the lines of a table, each as its cells, without its head."""
    begin, end = mark(name)
    table = text(name).partition(begin)[2].partition(end)[0].strip().splitlines()
    return [re.split(r" \| ", line.strip("| ")) for line in table[2:]]


def replace(name: str, lines: list[list[str]]) -> None:
    begin, end = mark(name)
    head = [HEADS[name], ["---"] * len(HEADS[name])]
    table = "\n".join(f"| {' | '.join(line)} |" for line in [*head, *lines])
    before, after = text(name).partition(begin)[0], text(name).partition(end)[2]
    (TEMPLATE / FILES[name]).write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")
