"""DATABASE_URL with what libpq understands, on a real PostgreSQL."""

import json

import pytest

from tests.project import PRODUCTION, Project
from tests.services import PostgreSQL, free_port

pytestmark = pytest.mark.serve

ASK = """
import django, json
django.setup()
from django.db import connection

with connection.cursor() as cursor:
    cursor.execute("select current_database(), current_setting('statement_timeout')")
    print(json.dumps([cursor.fetchone(), connection.connection.info.get_parameters()]))
"""


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("postgresql://postgres@127.0.0.1:{dead},127.0.0.1:{port}/{name}", "shop"),
        ("postgres://postgres@/{name}?host=127.0.0.1&port={port}", "shop"),
        ("postgresql://postgres@127.0.0.1:{port}/a%2Fb%23c%3Fd%25e", "a/b#c?d%e"),
    ],
)
def test_database_is_the_one_that_its_url_names(
    toolbox: Project, postgresql: PostgreSQL, form: str, name: str
) -> None:
    if name not in postgresql.query("select datname from pg_database", "postgres").splitlines():
        postgresql.query(f'create database "{name}"', "postgres")
    url = form.format(dead=free_port(), port=postgresql.port, name=name)
    mark = "&" if "?" in url else "?"
    url += f"{mark}connect_timeout=7&keepalives_idle=33&options=-c%20statement_timeout%3D5s"

    run = toolbox.must("python", "-c", ASK, **PRODUCTION, DATABASE_URL=url,
                       DJANGO_SETTINGS_MODULE="config.settings")  # fmt: skip
    answer, parameters = json.loads(run)

    assert answer == [name, "5s"]
    assert (parameters["connect_timeout"], parameters["keepalives_idle"]) == ("7", "33")
    assert parameters["tcp_user_timeout"] == "10000"
