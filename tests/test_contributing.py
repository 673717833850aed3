"""What those meet who take part: forms, workflows, a container for development, releases."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.combinations import CHOICES, TEMPLATE
from tests.project import Project

pytestmark = pytest.mark.bake

GITHUB = TEMPLATE / ".github"
VALIDATE = (str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema")
CONTRIBUTING = (TEMPLATE / "CONTRIBUTING.md").read_text(encoding="utf-8")
VERSION = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]["version"]


def form(name: str) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return the fields of an issue form by their ids."""
    body = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / name).read_text(encoding="utf-8"))["body"]
    return {field["id"]: field for field in body if "id" in field}


def test_forms_and_workflows_are_valid() -> None:
    here = Project(TEMPLATE, {})
    forms = sorted(str(path) for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
    forms.remove(str(GITHUB / "ISSUE_TEMPLATE" / "config.yml"))
    workflows = sorted(str(path) for path in (GITHUB / "workflows").iterdir())
    assert forms
    assert len(workflows) > 1
    here.must(*VALIDATE, "vendor.github-issue-forms", *forms)
    here.must(*VALIDATE, "vendor.github-issue-config", ".github/ISSUE_TEMPLATE/config.yml")
    here.must(*VALIDATE, "vendor.github-workflows", *workflows)


def test_form_for_faults_asks_for_each_answer() -> None:
    """GitHub refuses a form whose options have the word none, so the question stands before it."""
    asked = {
        name: field["attributes"]["options"]
        for name, field in form("bug.yml").items()
        if "options" in field["attributes"]
    }

    assert asked == {
        name: [f"{name}={value}" for value in values] for name, values in CHOICES.items()
    }


def test_form_for_faults_asks_for_the_versions() -> None:
    assert {"template", "versions"} <= form("bug.yml").keys()


# What may write, and where.
WRITERS = {
    ("docs.yml", "publish"): {"pages": "write", "id-token": "write"},
    ("release.yml", "release"): {"contents": "write"},
}


def test_only_the_jobs_that_publish_may_write_and_they_install_nothing() -> None:
    found = {}
    for path in (GITHUB / "workflows").iterdir():
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}
        for name, job in workflow["jobs"].items():
            if "permissions" in job:
                found[path.name, name] = job["permissions"]
                commands = " ".join(step.get("run", "") for step in job["steps"])
                assert not re.search(r"pip|uv |npm|curl", commands)
    assert found == WRITERS
    assert "gh release create" in str(release_jobs()["release"])


def test_site_of_the_documents_is_published_by_the_command_that_builds_it() -> None:
    jobs = yaml.safe_load((GITHUB / "workflows" / "docs.yml").read_text())["jobs"]
    build = [step["run"] for step in jobs["build"]["steps"] if "run" in step]

    # Without what the tests need.
    command = build[-1].rpartition(" && ")[2].replace("--only-group", "--group")
    assert f"\n{command} " in CONTRIBUTING
    assert jobs["build"]["steps"][-1]["with"] == {"path": "site"}
    assert jobs["publish"]["needs"] == "build"


def release_jobs() -> dict[str, dict[str, list[dict[str, str]]]]:
    return yaml.safe_load((GITHUB / "workflows" / "release.yml").read_text())["jobs"]


def test_release_is_tested_as_every_change_is() -> None:
    test = yaml.safe_load((GITHUB / "workflows" / "test.yml").read_text())["jobs"]["test"]
    jobs = release_jobs()

    assert jobs["release"]["needs"] == "test"
    assert jobs["test"]["steps"][-1] == test["steps"][-1]
    # The tests need the tags.
    assert jobs["test"]["steps"][0] == test["steps"][0]
    assert test["steps"][0]["with"]["fetch-depth"] == 0


def notes(tag: str) -> subprocess.CompletedProcess[str]:
    github = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "org/name"}
    return Project(TEMPLATE, {}).run(sys.executable, ".ci/notes", tag, **github)


def test_notes_of_a_release_are_its_part_of_the_changelog() -> None:
    run = notes(VERSION)

    assert run.returncode == 0, run.stdout
    assert "### What to do on update" in run.stdout
    assert f"## {VERSION}" not in run.stdout
    # As a page of the release shows it.
    linked = re.findall(r"\]\(([^)]*)\)", run.stdout)
    assert all(link.startswith("https://") for link in linked), linked


def test_tag_that_is_not_the_version_makes_no_release() -> None:
    run = notes("9.9.9")

    assert run.returncode == 1
    assert f"The tag is 9.9.9, and pyproject.toml has the version {VERSION}" in run.stdout


def test_container_for_development_has_the_python_and_the_tools_of_this_repository() -> None:
    container = json.loads((TEMPLATE / ".devcontainer" / "devcontainer.json").read_text())
    python = (TEMPLATE / ".python-version").read_text().strip()

    assert re.fullmatch(rf"python:{re.escape(python)}-\w+", container["image"])
    first, *_ = shlex.split(container["postCreateCommand"])
    assert (TEMPLATE / first).stat().st_mode & 0o100
    assert f"\n{first}\n" in (TEMPLATE / ".ci" / "run").read_text()


def test_commands_of_contributing_exist() -> None:
    commands = re.findall(
        r"^(?:uv run .*?python -m ([\w.]+)|(\.ci/\w+))", CONTRIBUTING, re.MULTILINE
    )

    assert len(commands) > 3
    for module, script in commands:
        path = TEMPLATE / (script or module.replace(".", "/"))
        assert path.is_file() or path.with_suffix(".py").is_file() or path.is_dir(), path


def test_no_module_of_tests_is_too_long_to_read() -> None:
    for path in (TEMPLATE / "tests").rglob("*.py"):
        if ".venv" not in path.parts:
            assert path.read_text(encoding="utf-8").count("\n") < 500, path
