"""The table of the versions with which a project works, and the command that writes it."""

import re
from pathlib import Path

import pytest
import yaml

from tests import versions
from tests.combinations import TEMPLATE
from tests.conftest import Bake
from tests.versions import BEGIN, END, PYTHONS, admit, is_admitted, merged

PYTHON = (TEMPLATE / ".python-version").read_text().strip()


@pytest.mark.bake
def test_table_has_only_what_was_run_and_that_works() -> None:
    """What is in it was run: `uv run python -m tests.versions`."""
    lines = versions.read()

    assert merged([], lines) == lines
    assert [PYTHON, "lowest"] in [line[:2] for line in lines]
    for python, dependencies, releases, tests, day in lines:
        assert python in PYTHONS
        assert releases.startswith("django 6.")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)
        if is_admitted(python, dependencies):
            assert re.fullmatch(r"\d\d+ passed(, \d+ skipped)?", tests), (python, dependencies)


@pytest.mark.bake
def test_new_line_replaces_the_old_one_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "FILE", tmp_path / "versions.md")
    old = [["3.12", "newest", "-", "1 failed", "-"], ["3.14", "lowest", "-", "9 passed", "-"]]
    new = [["3.12", "newest", "-", "9 passed", "-"], ["3.12", "lowest", "-", "9 passed", "-"]]
    versions.FILE.write_text(f"Before\n{BEGIN}\n{END}\nAfter\n")

    versions.write(old)
    versions.write(merged(versions.read(), new))

    assert versions.read() == [new[1], new[0], old[1]]
    assert versions.FILE.read_text().startswith(f"Before\n{BEGIN}\n| Python |")
    assert versions.FILE.read_text().endswith(f"| 9 passed | - |\n{END}\nAfter\n")


@pytest.mark.bake
def test_project_is_changed_only_in_what_it_admits(bake: Bake) -> None:
    before = bake(**versions.ANSWERS).read("pyproject.toml")

    assert admit(before, PYTHON, "lowest") == before
    assert admit(before, "3.12", "newest") == before.replace('">=3.13"', '">=3.12"')
    newer = admit(before, PYTHON, "newer than admitted")
    assert '"django>=6.1",' in newer
    assert not re.search(r",<\d", newer)


@pytest.mark.bake
def test_only_what_a_project_admits_has_to_work() -> None:
    assert [is_admitted(python, "lowest") for python in PYTHONS] == [False, True, True, True]
    assert not is_admitted("3.14", "newer than admitted")


@pytest.mark.bake
def test_workflow_runs_it_with_all_that_the_table_may_have() -> None:
    workflow = yaml.safe_load((TEMPLATE / ".github" / "workflows" / "versions.yml").read_text())
    commands = [step.get("run", "") for step in workflow["jobs"]["versions"]["steps"]]

    assert f"pip install --quiet uv && uv python install {' '.join(PYTHONS)}" in commands
    assert "uv run python -m tests.versions" in commands
    assert "schedule" in workflow[True]  # YAML takes the word on for true


@pytest.mark.project
def test_project_works_with_the_lowest_releases_that_it_admits(tmp_path: Path) -> None:
    """The newest are those of all other tests."""
    python = versions.find_python(PYTHON)
    assert python, f"Python {PYTHON} is not on this machine: uv python install {PYTHON}"

    result = versions.run(PYTHON, python, "lowest", tmp_path)

    assert result.passed, result.output
