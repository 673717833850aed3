"""The command that shows a reviewer what a change does to what users get."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import test_switch
from tests.diff import words
from tests.project import Project
from tests.test_switch import commit, edit

pytestmark = pytest.mark.bake

template = test_switch.template
PROJECT = "{{ cookiecutter.project_slug }}"

type Diff = Callable[..., str]


@pytest.fixture
def clone(template: Path, tmp_path: Path) -> Path:
    """A clone of the template, to be changed."""
    return shutil.copytree(template, tmp_path / "clone")


@pytest.fixture
def diff(clone: Path, tmp_path: Path) -> Diff:
    """Return a function that compares the clone with its last commit."""

    def diff(*answers: str) -> str:
        command = (sys.executable, "-m", "tests.diff", "HEAD", *answers)
        return Project(clone, {}).must(*command, "--folder", str(tmp_path / "diff"))

    return diff


def test_each_change_is_shown_once_with_the_projects_that_have_it(
    clone: Path, diff: Diff, tmp_path: Path
) -> None:
    edit(clone / PROJECT / "config" / "settings.py", '= "UTC"', '= "Europe/Berlin"')
    (clone / PROJECT / "{% if cookiecutter.__compose %}NEWS{% endif %}").touch()
    questions = clone / "cookiecutter.json"
    edit(questions, '"systemd", "none"]', '"none"]')
    edit(questions, '"deployment": [', '"colour": ["red", "green"],\n  "deployment": [')

    output = diff("interface=wsgi", "database=sqlite", "colour=red")

    assert output.count("Europe/Berlin") == 1
    assert "## config/settings.py, all 2 projects\n" in output
    assert '-TIME_ZONE = "UTC"\n+TIME_ZONE = "Europe/Berlin"\n' in output
    assert "## NEWS, 1 of 2 projects: deployment=compose\n\nnew, and empty: NEWS\n" in output
    assert "No longer there: 1 of 3 projects: deployment=systemd\n" in output
    # Nothing else, and no secret, which differs each time.
    assert output.count("## ") == 2
    assert {path.name for path in (tmp_path / "diff" / "after").iterdir()} == {
        "wsgi-none-sqlite-red-compose",
        "wsgi-none-sqlite-red-none",
    }


def test_refactoring_that_changes_no_project_says_so(clone: Path, diff: Diff) -> None:
    edit(clone / "README.md", "A template", "One template")
    commit(clone, "Words")

    output = diff("interface=wsgi", "deployment=none", "database=sqlite")

    assert output.startswith("No difference. Projects compared: 1.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none-such"], "git does not know the revision 'none-such'"),
        (
            ["HEAD", "interface=cgi"],
            "no project has interface=cgi. The answers are interface=wsgi|",
        ),
        (["HEAD", "--folder", "."], "is not empty: name another folder, or remove it"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], sentence: str, clone: Path) -> None:
    run = Project(clone, {}).run(sys.executable, "-m", "tests.diff", *arguments)

    assert run.returncode
    assert sentence in run.stdout
    assert "Traceback" not in run.stdout


def test_projects_are_named_by_the_answers_that_only_they_have() -> None:
    projects = [{"one": one, "two": two} for one in "ab" for two in "xy"]

    assert words(projects, projects) == "all 4 projects"
    assert words(projects[:2], projects) == "2 of 4 projects: one=a"
    # The second answer follows from the first.
    assert words(projects[:1], [*projects[:1], *projects[2:]]) == "1 of 3 projects: one=a"
    assert words(projects[1:], projects) == "3 of 4 projects: a-y, b-x, b-y"
