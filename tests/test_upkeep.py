"""What a project and this template have for those who work on them: workflows, services, notes."""

import json
import re
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.combinations import TEMPLATE
from tests.conftest import Bake
from tests.project import Project

pytestmark = pytest.mark.bake


def test_machinery_has_the_version_of_the_template(project: Project) -> None:
    version = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]["version"]

    assert f'__version__ = "{version}"\n' in project.read("serving/__init__.py")


def test_dependencies_of_this_repository_are_updated_too() -> None:
    validate = str(Path(sys.executable).with_name("check-jsonschema"))
    file = ".github/dependabot.yml"
    Project(TEMPLATE, {}).must(validate, "--builtin-schema", "vendor.dependabot", file)
    updates = yaml.safe_load((TEMPLATE / file).read_text())["updates"]

    assert {one["package-ecosystem"] for one in updates} == {"github-actions", "uv"}


def test_workflows_have_no_weak_points_and_pin_what_they_use() -> None:
    zizmor = str(Path(sys.executable).with_name("zizmor"))
    Project(TEMPLATE, {}).must(zizmor, "--offline", "--quiet", ".github", NO_COLOR="1")
    for file in (TEMPLATE / ".github" / "workflows").iterdir():
        used = re.findall(r"uses: (.*)", file.read_text())
        assert used
        assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", one) for one in used), used


def test_workflow_of_a_project_is_valid_and_has_the_services_of_its_answers(
    project: Project,
) -> None:
    programs = Path(sys.executable).parent
    project.must(str(programs / "zizmor"), "--offline", "--quiet", ".github", NO_COLOR="1")
    for schema, file in (
        ("vendor.github-workflows", ".github/workflows/ci.yml"),
        ("vendor.dependabot", ".github/dependabot.yml"),
    ):
        project.must(str(programs / "check-jsonschema"), "--builtin-schema", schema, file)
    text = project.read(".github/workflows/ci.yml")
    workflow = yaml.safe_load(text)
    job = workflow["jobs"]["ci"]
    images = {name: service["image"] for name, service in job.get("services", {}).items()}
    services = {"postgresql": "postgres:18"} if project.is_(database="postgresql") else {}
    services |= {} if project.is_(realtime="none") else {"redis": "redis:8"}

    # The same as in production.
    assert images == services
    if project.is_(deployment="compose"):
        running = yaml.safe_load(project.read("deploy/compose.yaml"))["services"]
        assert images == {name: running[name]["image"] for name in images}
    assert ("DATABASE_URL" in job["env"]) == ("postgresql" in services)
    assert ("TEST_REDIS_URL" in job["env"]) == ("redis" in services)
    assert workflow["permissions"] == {"contents": "read"}
    (python,) = [step for step in job["steps"] if "setup-python" in step.get("uses", "")]
    # What uv downloads is in the folder that is kept, and kept for what it was downloaded for.
    assert python["with"]["cache"] == "pip"
    assert python["with"]["cache-dependency-path"].split() == ["pyproject.toml", "uv.lock"]
    assert Path(job["env"]["UV_CACHE_DIR"]).parent == Path("/home/runner/.cache/pip")
    assert job["steps"][-1]["run"].endswith(" && uv run just ci")
    # With the hashes that this repository uses itself.
    own = (TEMPLATE / ".github" / "workflows" / "test.yml").read_text()
    assert set(re.findall(r"uses: (.*)", text)) == set(re.findall(r"uses: (.*)", own))


def test_file_for_gitlab_is_valid_and_has_the_services_of_the_workflow(
    bake: Bake, tmp_path: Path
) -> None:
    page = (TEMPLATE / "docs" / "choosing.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^  ```yaml\n(.*?)^  ```$", page, re.MULTILINE | re.DOTALL)
    file = tmp_path / ".gitlab-ci.yml"
    file.write_text(textwrap.dedent(block))
    validate = str(Path(sys.executable).with_name("check-jsonschema"))
    Project(tmp_path, {}).must(validate, "--builtin-schema", "vendor.gitlab-ci", file.name)
    job = yaml.safe_load(file.read_text())["ci"]
    project = bake(interface="asgi", realtime="channels", database="postgresql")
    github = yaml.safe_load(project.read(".github/workflows/ci.yml"))["jobs"]["ci"]
    images = {service["image"] for service in github["services"].values()}

    assert set(job["services"]) == images
    assert job["image"] == f"python:{project.read('.python-version').strip()}"
    assert job["script"] == [github["steps"][-1]["run"].replace(" --quiet", "")]
    # Each service has the name of its image.
    assert {
        name: re.sub(r"(//|@)(postgres|redis):(?=\d)", r"\1localhost:", value)
        for name, value in job["variables"].items()
    } == {
        "POSTGRES_PASSWORD": github["services"]["postgresql"]["env"]["POSTGRES_PASSWORD"],
        **{name: github["env"][name] for name in ("DATABASE_URL", "TEST_REDIS_URL")},
    }


def test_services_for_development_are_those_of_production(
    project: Project, toolbox: Project, tmp_path: Path
) -> None:
    """As `just services` and .env say it, with Docker's own program, which needs no engine here."""
    if project.is_(database="sqlite", realtime="none"):
        assert "services" not in project.read("justfile")
        return
    compose = str(Path(sys.executable).with_name("docker-compose"))
    (tmp_path / "docker").write_text(f'#!/bin/sh\nshift\nexec "{compose}" "$@"\n')
    (tmp_path / "docker").chmod(0o755)
    path = f"{tmp_path}:{project.environment()['PATH']}"
    just = str(toolbox.bin / "just")
    project.must(
        just, "services", "config", "--format", "json", "-o", str(tmp_path / "read.json"), PATH=path
    )
    services = json.loads((tmp_path / "read.json").read_text())["services"]
    workflow = yaml.safe_load(project.read(".github/workflows/ci.yml"))["jobs"]["ci"]["services"]

    mail = services["mail"]
    assert re.fullmatch(r"axllent/mailpit:v\d+\.\d+", mail["image"])
    (url, address) = re.findall(
        r"(?:http|smtp)://localhost:(\d+)", project.read("compose.dev.yaml")
    )
    assert [port["published"] for port in mail["ports"]] == [url, address]
    images = {name: service["image"] for name, service in services.items() if name != "mail"}
    assert images == {name: service["image"] for name, service in workflow.items()}
    for name, service in services.items():
        assert {port["host_ip"] for port in service["ports"]} == {"127.0.0.1"}
        assert service["healthcheck"]["test"], f"{name}: what does --wait wait for?"
    # Nobody has to find out what to write into .env.
    if "postgresql" in services:
        user = services["postgresql"]["environment"]
        name, password = user["POSTGRES_USER"], user["POSTGRES_PASSWORD"]
        url = f"\n# DATABASE_URL=postgresql://{name}:{password}@localhost:5432/{name}\n"
        assert url in project.read(".env")
    assert ("\n# REDIS_URL=redis://localhost:6379/0\n" in project.read(".env")) == (
        "redis" in services
    )
    (tmp_path / "docker").write_text('#!/bin/sh\necho "$@"\n')
    assert project.must(just, "services", PATH=path).split() == [
        "compose", "--file", "compose.dev.yaml", "up", "--detach", "--wait",
    ]  # fmt: skip


def test_notes_for_agents_are_short_and_true(project: Project, toolbox: Project) -> None:
    text = project.read("AGENTS.md")
    recipes = project.must(str(toolbox.bin / "just"), "--summary").split()

    assert text.count("\n") <= 20
    for command in re.findall(r"`uv run just ([^`]*)`", text):
        names = command.split()
        assert names[0] in recipes
        if names[0] == "fix":
            assert set(names) <= set(recipes)
    named = re.findall(r"`(?:uv run pytest )?((?:config|serving|tests)/[\w./]*)`", text)
    assert len(named) > 4
    for name in (*named, f"{project.slug}/", "README.md"):
        assert (project.path / name).exists(), name
    for name in re.findall(r"`([A-Z_]+)`", text):
        assert f"{name}" in project.read("config/settings.py"), name
