"""A project of each release, with its owner's work in it, is updated to what stands here.

tests/releases/ has a folder for each release: its answers, and the work as a patch. A release is a
tag, its version. The release that is being prepared has no tag yet; then the files that stand here
are tagged, in a repository of the test, and a change on top of them is what comes after it.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import test_switch
from tests.combinations import CHOICES, TEMPLATE
from tests.project import Project
from tests.test_switch import VERSION, change, commit, contents, cruft, git

template = test_switch.template
RELEASES = sorted((TEMPLATE / "tests" / "releases").iterdir())

type Updated = tuple[Project, Project]


def repository(release: str, template: Path, folder: Path) -> Path:
    """Make a repository with `release` as a tag, and what comes after it as the last commit."""
    old = subprocess.run(
        ["git", "-c", "safe.directory=*", "archive", f"refs/tags/{release}"],
        cwd=TEMPLATE, capture_output=True,
    )  # fmt: skip
    shutil.copytree(template, folder)
    if old.returncode == 0:
        git(folder, "rm", "--quiet", "-r", ".")
        subprocess.run(["tar", "-x"], cwd=folder, input=old.stdout, check=True)
        commit(folder, release)
        git(folder, "tag", release)
        git(folder, "checkout", "--quiet", "HEAD~1", "--", ".")
        for name in git(folder, "diff", "--name-only", "-z", "HEAD~1").split("\0"):
            (folder / name).unlink() if name else None
    elif release == VERSION:
        git(folder, "tag", release)
        change(folder)
    else:
        sentence = f"The tag {release} is not in this clone: git fetch --tags"
        pytest.fail(sentence) if os.environ.get("CI") else pytest.skip(sentence)
    commit(folder, "What comes after it")
    return folder


@pytest.fixture(params=RELEASES, ids=lambda folder: folder.name)
def release(request: pytest.FixtureRequest) -> Path:
    """The folder of each release in turn."""
    return request.param


@pytest.fixture
def updated(release: Path, template: Path, tmp_path: Path) -> Updated:
    """A project of the release that was updated, and one that is made today of its answers."""
    here = repository(release.name, template, tmp_path / "template")
    answers = json.loads((release / "answers.json").read_text(encoding="utf-8"))
    given = ("--no-input", "--extra-context", json.dumps(answers))
    (tmp_path / "today").mkdir()
    cruft(tmp_path / "today", "create", str(here), *given)
    # As the README says how to take a release.
    cruft(tmp_path, "create", str(here), "--checkout", release.name, *given)
    answers["project_slug"] = "corner_shop"
    project = Project(tmp_path / "corner_shop", answers)
    git(project.path, "init", "--quiet")
    commit(project.path, "As it was created")
    git(project.path, "apply", "-C1", str(release / "edits.patch"))
    commit(project.path, "A week of work")

    assert "Good work!" in cruft(project.path, "update", "-y")

    return project, Project(tmp_path / "today" / "corner_shop", answers)


@pytest.mark.bake
def test_project_of_a_release_is_updated_and_keeps_the_work(
    updated: Updated, release: Path
) -> None:
    project, today = updated
    edits = (release / "edits.patch").read_text(encoding="utf-8")
    work: dict[str, list[str]] = {}
    for part in edits.split("diff --git ")[1:]:
        name = part.split()[1].removeprefix("b/")
        work[name] = re.findall(r"^\+(?!\+\+ )(.*)$", part, re.MULTILINE)

    found, expected = contents(project), contents(today)

    assert len(work) > 5
    for name, lines in work.items():
        kept = project.read(name).splitlines()
        assert [line for line in lines if line not in kept] == [], name
        assert "<<<<<<<" not in project.read(name)
        found.pop(name)
        expected.pop(name, None)
    found.pop("corner_shop/shop")
    assert found == expected
    settings = "config/settings.py"
    theirs = set(project.read(settings).splitlines()) - set(work[settings])
    assert theirs <= set(today.read(settings).splitlines())


@pytest.mark.project
def test_project_of_a_release_passes_its_tests_after_the_update(updated: Updated) -> None:
    project, _ = updated
    project.install()
    project.must("just", "lint")
    output = project.must("just", "test", "-q", "-p", "no:cacheprovider")
    assert re.search(r"\b\d\d+ passed", output)


@pytest.mark.bake
def test_each_release_in_the_changelog_has_its_project() -> None:
    changelog = (TEMPLATE / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## (\d\S*) \(\d{4}-\d\d-\d\d\)$", changelog, re.MULTILINE)

    assert released[0] == VERSION
    assert sorted(folder.name for folder in RELEASES) == sorted(released)
    for folder in RELEASES:
        assert {path.name for path in folder.iterdir()} == {"answers.json", "edits.patch"}
        answers = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
        assert answers.keys() - CHOICES.keys() == {"project_name"}
