"""Connections of each combination: kept, limited in time, begun as Django wants them."""

import json
from pathlib import Path

import pytest

from tests.conftest import Bake
from tests.project import PRODUCTION, Project, entry_modules, production
from tests.services import PostgreSQL

pytestmark = pytest.mark.project

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
