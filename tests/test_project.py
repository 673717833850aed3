"""Each combination installed: its own checks, its own tests, its entry modules."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.combinations import PAIRWISE, name_of
from tests.conftest import Bake
from tests.project import PRODUCTION, Project, entry_modules, production, uv
from tests.services import PostgreSQL

pytestmark = pytest.mark.project


# Of the database they have a few lines; every combination is typed below, and linted as it was
# baked (tests/test_bake.py).
@pytest.fixture(scope="session", params=PAIRWISE, ids=name_of)
def different(request: pytest.FixtureRequest, install: Bake) -> Project:
    """Each pair of answers in turn, installed."""
    return install(**request.param)


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder for what mypy finds out of the libraries, which are the same for all."""
    return str(tmp_path_factory.getbasetemp() / "mypy")


def test_it_is_typed_and_what_is_tested_inside_it_is_clean(
    project: Project, toolbox: Project, tmp_path: Path, mypy_cache: str
) -> None:
    copy = Project(tmp_path / "copy", project.answers)
    shutil.copytree(project.path, copy.path, ignore=shutil.ignore_patterns(".venv"))
    copy.write_inside_tests(copy.path / "more")
    python = (str(toolbox.bin / "python"), "-m")

    copy.must(*python, "ruff", "format", "--no-cache", "--check", "--diff", "more")
    copy.must(*python, "ruff", "check", "--no-cache", "more")
    copy.must(*python, "mypy", "--cache-dir", mypy_cache, ".", PYTHONDONTWRITEBYTECODE="1")


def test_deploy_check_is_silent(installed: Project) -> None:
    output = installed.must(
        "python", "-W", "error", "manage.py", "check", "--deploy", "--fail-level", "WARNING",
        **production(installed),
    )  # fmt: skip

    assert output.startswith("System check identified no issues")


def test_its_own_tests_pass(installed: Project) -> None:
    assert installed.is_(database="postgresql") == ("psycopg" in installed.read("pyproject.toml"))
    output = installed.must("just", "test", "-q", "-p", "no:cacheprovider")

    assert re.search(r"^\d+ passed", output, re.M)
    assert not re.search(r"\d+ skipped", output)
    total = re.search(r"^TOTAL.* (\d+)%$", output, re.M)
    assert total
    # What starts the site and reads its environment is tested from outside, and inside it.
    assert int(total[1]) >= 70, output


def test_welcome_page_goes_with_its_folder_and_two_lines(install: Bake, tmp_path: Path) -> None:
    for realtime in ("none", "channels"):
        project = install(interface="both", realtime=realtime)
        copy = Project(tmp_path / realtime, project.answers)
        shutil.copytree(project.path, copy.path, symlinks=True)
        shutil.rmtree(copy.path / copy.slug / "welcome")
        removed = 0
        for file in (copy.path / "config").glob("*.py"):
            lines = file.read_text().splitlines(keepends=True)
            kept = [line for line in lines if "welcome" not in line]
            removed += len(lines) - len(kept)
            file.write_text("".join(kept))
        assert removed == 2

        programs = [str(project.bin / "python"), "-m"]
        assert copy.run(*programs, "pytest", "-q", "-p", "no:cacheprovider").returncode == 0
        copy.must(*programs, "ruff", "check", "--no-cache")
        copy.must(*programs, "ruff", "format", "--no-cache", "--check")
        copy.must(*programs, "mypy", ".")


ASYNC_TEST = """
import pytest
from django.contrib.auth import get_user_model

User = get_user_model()

@pytest.mark.django_db
async def test_query():
    assert await User.objects.filter(username="ada").acount() == 0

@pytest.mark.django_db
async def test_view(async_client):
    assert (await async_client.get("/accounts/login/")).status_code == 200

@pytest.mark.django_db
async def test_write():
    await User.objects.acreate(username="ada")
    await User.objects.all().adelete()

@pytest.mark.django_db(transaction=True)
async def test_write_that_is_cleaned_up():
    await User.objects.acreate(username="ada")

test_it_was = test_query
"""


def test_async_tests_can_use_the_database(installed: Project, tmp_path: Path) -> None:
    """As on Django's own settings; SQLite's lock would be taken by the test itself."""
    if "pytest-asyncio" not in installed.read("pyproject.toml"):
        assert installed.is_(realtime="none")
        return
    (tmp_path / "test_async.py").write_text(ASYNC_TEST)

    output = installed.must(
        "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "-c", "pyproject.toml",
        str(tmp_path / "test_async.py"),
    )  # fmt: skip

    assert "5 passed" in output


def test_its_own_lint_passes(different: Project) -> None:
    """Types, and no migration is missing; with just the dependencies that it has."""
    output = different.must("just", "lint")

    assert "Success: no issues found" in output
    assert "No changes detected" in output


# What `uv audit` ends with, and what then `just ci` does. A uv without it ends with 2 too.
NOT_CHECKED = "Vulnerabilities were not checked: see the error above."
AUDITS = {
    "nothing found": ("exit 0", 0, ""),
    "a vulnerability": ("[ $2 = --help ] || exit 1", 1, ""),
    "no network": ("[ $2 = --help ] || exit 2", 0, NOT_CHECKED),
    "no such command": ("exit 2", 2, ""),
}


def programs(folder: Path, **codes: int) -> str:
    """Return a PATH with programs in front that only end, with these exit codes."""
    for name, code in codes.items():
        (folder / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.mark.parametrize("audit", AUDITS)
def test_ci_fails_for_a_vulnerability_and_not_for_want_of_a_network(
    different: Project, audit: str, tmp_path: Path
) -> None:
    path = programs(tmp_path, ruff=0, mypy=0, pytest=0, uv=0)
    script, code, sentence = AUDITS[audit]
    (tmp_path / "uv").write_text(f"#!/bin/sh\n{script}\n")

    run = different.run(
        "just", "ci", UV=str(tmp_path / "uv"),
        PATH=f"{path}{os.pathsep}{different.environment()['PATH']}",
    )  # fmt: skip

    assert run.returncode == code, run.stdout
    assert "System check identified no issues" in run.stdout
    assert sentence in run.stdout
    assert (NOT_CHECKED in run.stdout) == bool(sentence)


@pytest.mark.parametrize("broken", ["ruff", "mypy", "pytest", "settings"])
def test_ci_fails_with_each_of_its_parts(install: Bake, broken: str, tmp_path: Path) -> None:
    project = install(interface="asgi", realtime="none", database="sqlite")
    names = ("ruff", "mypy", "pytest", "uv")
    path = programs(tmp_path, **{name: int(name == broken) for name in names})
    variables = {"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "less"}
    (tmp_path / "less.py").write_text(
        f"from config.settings import *\n\nSESSION_COOKIE_SECURE = {broken != 'settings'}\n"
    )

    run = project.run(
        "just", "ci", UV=str(tmp_path / "uv"),
        PATH=f"{path}{os.pathsep}{project.environment()['PATH']}",
        **variables,
    )  # fmt: skip

    assert run.returncode != 0, run.stdout
    assert ("security.W010" in run.stdout) == (broken == "settings")


def test_ci_passes_with_the_services_of_the_workflow(
    toolbox: Project, postgresql: PostgreSQL, redis: str, tmp_path: Path
) -> None:
    """In a checkout: without .env, which git ignores."""
    copy = Project(tmp_path / "checkout", toolbox.answers)
    shutil.copytree(toolbox.path, copy.path, symlinks=True)
    (copy.path / ".env").unlink()
    programs(tmp_path, uv=0)

    output = copy.must(
        "just", "ci", UV=str(tmp_path / "uv"),
        DATABASE_URL=postgresql.new_database(), TEST_REDIS_URL=redis,
        PATH=toolbox.environment()["PATH"],
    )  # fmt: skip

    assert re.search(r"\b\d\d+ passed", output)
    assert "Success: no issues found" in output
    assert "System check identified no issues" in output


def test_entry_modules_import_first_thing(installed: Project) -> None:
    for module in entry_modules(installed):
        output = installed.must(
            "python", "-W", "error", "-W", "ignore:No directory at", "-c",
            f"import {module} as entry; print(type(entry.application).__name__)",
            **production(installed),
        )  # fmt: skip
        assert output.endswith(
            {"wsgi": "WSGIStaticFiles\n", "asgi": "ASGIStaticFiles\n"}[module[-4:]]
        )


def test_entry_modules_survive_an_overzealous_linter(different: Project, tmp_path: Path) -> None:
    """Sorting imports must not move one above the call that sets Django up."""
    config = tmp_path / "config"
    shutil.copytree(different.path / "config", config)
    for ignored in ((), ("--ignore-noqa",)):
        different.run(
            "ruff", "check", "--fix", "--unsafe-fixes", "--no-cache", "--exit-zero",
            "--select", "ALL", "--ignore", "D,ANN,INP", *ignored, str(config),
        )  # fmt: skip
        different.must("ruff", "format", "--no-cache", str(config))
        for module in entry_modules(different):
            different.must(
                "python", "-c",
                f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\n"
                f"import {module} as entry; assert entry.__file__.startswith({str(tmp_path)!r})",
                **production(different),
            )  # fmt: skip


@pytest.mark.parametrize("missing", ["DJANGO_SECRET_KEY", "DJANGO_ALLOWED_HOSTS"])
def test_production_command_stops_with_a_sentence(installed: Project, missing: str) -> None:
    """Not with a traceback, and not by starting workers that die again and again."""
    variables = production(installed) | {missing: "", "DJANGO_DEBUG": "false"}
    commands = [["gunicorn", "--config", "config/gunicorn.conf.py"]]
    if installed.is_(interface="asgi"):
        commands = []
    if installed.answers["interface"] != "wsgi":
        commands.append(["python", "-m", "config.uvicorn_conf"])

    for command in commands:
        run = installed.run(*command, **variables)
        assert run.returncode != 0
        assert f"This site cannot start: {missing} is not set." in run.stdout
        assert "Traceback" not in run.stdout
        assert len(run.stdout.splitlines()) < 5, run.stdout


def test_processes_that_would_not_hear_each_other_are_refused(installed: Project) -> None:
    if installed.is_(realtime="none"):
        assert "REDIS_URL" not in installed.read("config/environment.py")
        return
    variables = production(installed) | {"REDIS_URL": "", "WEB_CONCURRENCY": "2"}
    if installed.is_(realtime="sse"):
        # They look into the database.
        installed.must("python", "manage.py", "check", **variables)
        return
    for command in (
        ["python", "-m", "config.uvicorn_conf"],
        ["python", "manage.py", "check"],
    ):
        run = installed.run(*command, **variables)
        assert run.returncode == 1
        assert "Set REDIS_URL, or WEB_CONCURRENCY=1." in run.stdout
        assert "Traceback" not in run.stdout


NUMBERS = """
import asyncio, os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
import django
django.setup()
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
api.set_meter_provider(MeterProvider([reader]))
from prometheus_client import generate_latest
from serving import metrics, threads
pool = threads.Pool("numbers", 2, 4)
pool.submit(int).result()
metrics.OPEN_COUNTS["sockets"] += 3
metrics.export()
print(generate_latest().decode())
for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
    for metric in scope.metrics:
        for point in metric.data.data_points:
            print("otel", metric.name, dict(point.attributes).get("state", ""), point.value)
"""


def test_numbers_of_a_process_reach_prometheus_and_opentelemetry(install: Bake) -> None:
    """Through packages that a project has only if its owner installs them."""
    project = install(interface="asgi", realtime="none", database="sqlite")

    output = project.must(
        uv(), "run", "--quiet", "--with", "prometheus-client", "--with", "opentelemetry-sdk",
        "python", "-c", NUMBERS, **PRODUCTION,
    )  # fmt: skip

    assert re.search(r'site_threads\{.*pool="numbers".*state="threads"\} 1\.0', output), output
    assert re.search(r"site_sockets\{.*\} 3\.0", output), output
    assert "otel site_threads waiting 0" in output
    assert "otel site_sockets  3" in output
