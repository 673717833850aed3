"""Each combination installed: its own checks, its own tests, its entry modules."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.combinations import PAIRWISE, SITES, Answers, name_of
from tests.conftest import Bake
from tests.project import PRODUCTION, PYTEST_INSIDE, Project, uv
from tests.services import PostgreSQL

pytestmark = pytest.mark.project


# Of the database they have a few lines; every combination is linted and typed as it was baked
# (tests/test_bake.py).
@pytest.fixture(scope="session", params=PAIRWISE, ids=name_of)
def different(request: pytest.FixtureRequest, install: Bake) -> Project:
    """Each pair of answers in turn, installed."""
    return install(**request.param)


def production(project: Project) -> dict[str, str]:
    """Return the environment of production; nothing in it is connected to."""
    variables = dict(PRODUCTION)
    if project.is_(database="postgresql"):
        variables["DATABASE_URL"] = "postgresql://user:password@127.0.0.1:9/name"
    if not project.is_(realtime="none"):
        variables["REDIS_URL"] = "redis://127.0.0.1:9/0"
    return variables


def entry_modules(project: Project) -> list[str]:
    return [
        f"config.{name}"
        for name in ("wsgi", "asgi")
        if (project.path / "config" / f"{name}.py").exists()
    ]


def test_deploy_check_is_silent(installed: Project) -> None:
    output = installed.must(
        "python", "-W", "error", "manage.py", "check", "--deploy", "--fail-level", "WARNING",
        **production(installed),
    )  # fmt: skip

    assert output.startswith("System check identified no issues")


def test_its_own_tests_pass(installed: Project) -> None:
    output = installed.must("just", "test", "-q", "-p", "no:cacheprovider")

    assert re.search(r"\b\d\d+ passed", output)
    assert not re.search(r"\d+ skipped", output)
    total = re.search(r"^TOTAL.* (\d+)%$", output, re.M)
    assert total
    # What starts the site and reads its environment is tested from outside, and inside it.
    assert int(total[1]) >= 70, output


def test_what_it_stands_on_is_tested_inside_it(
    installed: Project, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """On the database that it is served with; its owner's tests on both."""
    variables = {}
    if installed.is_(database="postgresql"):
        server: PostgreSQL = request.getfixturevalue("postgresql")
        installed.pytest_inside(Path("tests"), DATABASE_URL=server.new_database())
        variables["DATABASE_URL"] = server.new_database()
    else:
        assert "psycopg" not in installed.read("pyproject.toml")

    output = installed.pytest_inside(installed.write_inside_tests(tmp_path), **variables)

    assert re.search(r"\b\d\d+ passed", output)
    assert not re.search(r"\d+ skipped", output)


def test_welcome_page_goes_with_its_folder_and_the_lines_that_name_it(
    install: Bake, tmp_path: Path
) -> None:
    for realtime in ("none", "channels"):
        project = install(interface="both", realtime=realtime)
        copy = Project(tmp_path / realtime, project.answers)
        shutil.copytree(project.path, copy.path, symlinks=True)
        shutil.rmtree(copy.path / copy.slug / "welcome")
        for file in (copy.path / "config").glob("*.py"):
            lines = file.read_text().splitlines(keepends=True)
            file.write_text("".join(line for line in lines if "welcome" not in line))

        programs = [str(project.bin / "python"), "-m"]
        assert copy.run(*programs, "pytest", "-q", "-p", "no:cacheprovider").returncode == 0
        copy.must(*programs, "ruff", "check", "--no-cache")
        copy.must(*programs, "ruff", "format", "--no-cache", "--check")
        copy.must(*programs, "mypy", ".")


# An owner changes settings; one project for each kind of async code.
CHANGED = pytest.mark.parametrize(
    "answers",
    [
        answers
        for answers in SITES
        if name_of(answers) in ("asgi-none-sqlite", "asgi-sse-sqlite", "both-channels-sqlite")
    ],
    ids=name_of,
)


ATOMIC_REQUESTS = "DATABASES['default']['ATOMIC_REQUESTS'] = True\n"
# As Django's documentation says: after the sessions, and addresses that begin with a language
# (a language that stands for another, "en-us", makes addresses that Django does not find).
LANGUAGES = """
LANGUAGE_CODE = "en"
MIDDLEWARE.insert(4, "django.middleware.locale.LocaleMiddleware")
ROOT_URLCONF = "changed_urls"
"""
LANGUAGES_URLS = """
from django.conf.urls.i18n import i18n_patterns
from django.urls import path
from config.urls import urlpatterns as all_of_them
from corner_shop.welcome import urls, views

welcome, login, accounts, admin, *others = all_of_them
home = path("", views.home, name="home")
# What a proxy sends to ASGI has no language.
urlpatterns = [*i18n_patterns(home, login, accounts, admin), *urls.urlpatterns[1:], *others]
"""


@CHANGED
@pytest.mark.parametrize("change", [ATOMIC_REQUESTS, LANGUAGES], ids=["atomic", "languages"])
def test_its_own_tests_pass_after_a_usual_change_of_the_settings(
    answers: Answers, change: str, install: Bake, tmp_path: Path
) -> None:
    (tmp_path / "changed.py").write_text(f"from tests.settings import *\n{change}")
    (tmp_path / "changed_urls.py").write_text(LANGUAGES_URLS)

    project = install(**answers)
    for tests in (Path("tests"), project.write_inside_tests(tmp_path)):
        output = project.must(
            "python", *PYTEST_INSIDE, "--ds", "changed", str(tests), PYTHONPATH=f"{tmp_path}:."
        )
        assert re.search(r"\b\d+ passed", output)


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


MODEL = """\
from django.db import models


class Item(models.Model):
    name = models.CharField(max_length=20)

    def __str__(self) -> str:
        return self.name
"""


@pytest.mark.parametrize("slug", ["shop_window", "s" * 40])
def test_new_app_is_installed_tested_and_linted(slug: str, bake: Bake) -> None:
    """With its first model, and the migration as Django writes it."""
    project = bake(project_slug=slug, interface="asgi", realtime="channels")
    project.install()
    before = project.files()

    project.must("just", "startapp", "shop")

    new = {name for name in project.files() - before if "_cache/" not in name}
    assert new == {
        "tests/test_shop.py",
        *(f"{slug}/shop/{name}.py" for name in ("__init__", "admin", "apps", "models", "views")),
        f"{slug}/shop/migrations/__init__.py",
    }
    assert f'    "{slug}.chat",\n    "{slug}.shop",\n' in project.read("config/settings.py")
    (project.path / slug / "shop" / "models.py").write_text(MODEL)
    project.must("just", "manage", "makemigrations", "shop")
    project.must("just", "lint")
    assert "1 passed" in project.must("just", "test", "-q", "-k", "test_app_is_installed")


@pytest.mark.parametrize(
    "name", ["my-app", "class", "users", "admin", "json", "Shop", "größe", "../x", ""]
)
def test_app_with_an_unfit_name_leaves_nothing_behind(name: str, install: Bake) -> None:
    project = install(interface="wsgi", realtime="none", database="sqlite")
    before = {path: path.read_bytes() for path in map(project.path.joinpath, project.files())}

    run = project.run("just", "startapp", name)

    assert run.returncode == 1
    assert re.match(r"'.*' (is|conflicts) .*\.$", run.stdout.splitlines()[0]), run.stdout
    assert "Traceback" not in run.stdout
    assert before == {path: path.read_bytes() for path in before}
    assert project.files() == {str(path.relative_to(project.path)) for path in before}


@pytest.mark.parametrize("name", ["accounts", "pages"])
def test_new_app_may_be_called_as_tests_of_the_project_are(name: str, bake: Bake) -> None:
    project = bake(interface="wsgi")
    project.install()
    before = project.read(f"tests/test_{name}.py")

    project.must("just", "startapp", name)

    assert project.read(f"tests/test_{name}.py") == before
    project.must("just", "lint")
    run = project.must("just", "test", "-q", f"tests/test_{name}_app.py")
    assert "1 passed" in run
    assert "is taken" in project.run("just", "startapp", name).stdout


def test_plain_startapp_is_tested_and_linted(bake: Bake) -> None:
    """As Django's documentation says, at the root, once `just fix` has put it in shape."""
    project = bake(interface="wsgi")
    project.install()

    project.must("django-admin", "startapp", "shop")
    settings = project.path / "config" / "settings.py"
    settings.write_text(settings.read_text().replace("APPS = [\n", 'APPS = [\n    "shop",\n'))
    (project.path / "shop" / "models.py").write_text(MODEL)
    project.must("just", "manage", "makemigrations", "shop")
    (project.path / "shop" / "tests.py").write_text("def test_shop() -> None:\n    assert True\n")
    project.must("just", "fix")
    project.must("just", "lint")
    assert "1 passed" in project.must("just", "test", "-q", "-k", "test_shop")


def test_packages_without_types_may_be_installed_apps(bake: Bake) -> None:
    """The type checker looks at all models, through everything that imports django.apps."""
    project = bake(interface="asgi", realtime="channels")
    project.must(uv(), "add", "--quiet", "djangorestframework")
    project.install()
    settings = project.path / "config" / "settings.py"
    settings.write_text(
        settings.read_text().replace("APPS = [\n", 'APPS = [\n    "rest_framework.authtoken",\n')
    )

    project.must("just", "lint")


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


FACTS = """
import json
from django.conf import settings
from django.db import connection
database = settings.DATABASES["default"]
facts = {
    "max_age": connection.settings_dict["CONN_MAX_AGE"],
    "health_checks": connection.settings_dict["CONN_HEALTH_CHECKS"],
    "atomic": connection.settings_dict["ATOMIC_REQUESTS"],
}
if connection.vendor == "sqlite":
    with connection.cursor() as cursor:
        facts["journal"] = cursor.execute("PRAGMA journal_mode").fetchone()[0]
    facts["mode"] = database["OPTIONS"]["transaction_mode"]
print(json.dumps(facts))
"""


def test_database_connections_are_kept(installed: Project, tmp_path: Path) -> None:
    variables = production(installed)
    if installed.is_(database="sqlite"):
        variables["DATABASE_URL"] = f"sqlite:///{tmp_path}/db.sqlite3"
    facts = json.loads(
        installed.must("python", "manage.py", "shell", "-v", "0", "-c", FACTS, **variables)
    )

    # Connections are kept: under ASGI as well, where serving/threads.py has threads that live on.
    assert facts["max_age"] == 60
    assert facts["health_checks"]
    assert not facts["atomic"]
    if installed.is_(database="sqlite"):
        assert (facts["journal"], facts["mode"]) == ("wal", "IMMEDIATE")


PAGE = """
import django
django.setup()
from django.db import connection
connection.cursor().execute("select pg_sleep(2)")
"""
IDLE = """
import time, django
django.setup()
from django.db import connection, transaction
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute("select 1")
    time.sleep(2)
    cursor.execute("select 1")
print("done")
"""
REPORT = """
import django
django.setup()
from django.db import connection, transaction
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute("SET LOCAL statement_timeout = '10min'")
    cursor.execute("select pg_sleep(2)")
print("done")
"""
SLOW_MIGRATION = """
from django.db import migrations

class Migration(migrations.Migration):
    operations = [migrations.RunSQL("select pg_sleep(2)")]
"""


def test_a_query_of_a_page_has_a_time_limit_but_a_migration_has_none(
    install: Bake, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    """Here one of half a second, which the URL names; it wins over that of the settings."""
    project = install(database="postgresql")
    app = tmp_path / "slow"
    (app / "migrations").mkdir(parents=True)
    (app / "migrations/__init__.py").touch()
    (app / "migrations/0001_initial.py").write_text(SLOW_MIGRATION)
    (tmp_path / "slow_settings.py").write_text(
        "from config.settings import *\nINSTALLED_APPS += ['slow']\n"
    )
    url = postgresql.new_database()
    limits = "-c%20statement_timeout%3D500ms%20-c%20idle_in_transaction_session_timeout%3D500ms"
    variables = PRODUCTION | {
        "DATABASE_URL": f"{url}?options={limits}",
        "DJANGO_SETTINGS_MODULE": "slow_settings",
        "PYTHONPATH": f"{tmp_path}:.",
    }

    page = project.run("python", "-c", PAGE, **variables)
    idle = project.run("python", "-c", IDLE, **variables)
    report = project.run("python", "-c", REPORT, **variables)
    migration = project.run("python", "manage.py", "migrate", **variables)
    command = project.run("python", "manage.py", "shell", "-v", "0", "-c", IDLE, **variables)

    assert "canceling statement due to statement timeout" in page.stdout
    assert "idle-in-transaction timeout" in idle.stdout
    assert report.stdout == "done\n"
    assert "Applying slow.0001_initial... OK" in migration.stdout
    assert command.stdout == "done\n"


SESSION = """
import {module}
from django.db import connection

new = connection.get_new_connection(connection.get_connection_params())
print(new.info.parameter_status("TimeZone"), *(
    new.execute(f"show {{name}}").fetchone()[0]
    for name in ("statement_timeout", "idle_in_transaction_session_timeout")
))
"""


def test_servers_begin_a_session_with_its_options(install: Bake, postgresql: PostgreSQL) -> None:
    """Its time zone is that of Django from the start, so that it needs no query of its own."""
    project = install(interface="both", realtime="channels", database="postgresql")
    url = postgresql.new_database()
    name = url.rpartition("/")[2]
    postgresql.query(f"alter database {name} set timezone to 'Asia/Tokyo'", name)

    for module in entry_modules(project):
        output = project.must(
            "python", "-W", "ignore:No directory at", "-c", SESSION.format(module=module),
            **PRODUCTION, DATABASE_URL=url, REDIS_URL="redis://127.0.0.1:9/0",
        )  # fmt: skip
        assert output == "UTC 1min 1min\n"


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
metrics.OPEN["sockets"] += 3
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
