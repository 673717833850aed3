"""Each variable of the environment: it means what the README says, or a sentence names it.

One process of a project reads its environment anew for each example.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.combinations import Answers, name_of
from tests.conftest import Bake
from tests.meanings import MEANS, URL
from tests.project import PRODUCTION, Project

pytestmark = pytest.mark.project

# Reads a line with the variables, and answers with a line of what they are to the site.
READER = r"""
import json, os, sys, traceback
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import urlsplit
from django.conf import settings
from django.http.request import split_domain_port, validate_host
try:
    import psycopg, redis
    from django.core.cache.backends.redis import RedisCacheClient
    from django.db.backends.postgresql.base import DatabaseWrapper
    from redis import asyncio as aioredis
except ImportError:
    pass  # a project that has neither

settings.configure(USE_TZ=True)
inherited = dict(os.environ)

def believed(environment, database):
    e = environment
    found = {"ALLOWED_HOSTS": e.ALLOWED_HOSTS, "DEBUG": e.DEBUG, "HTTPS": e.HTTPS,
             "PORT": e.PORT, "WEB_CONCURRENCY": e.WEB_CONCURRENCY, "KEY": e.SECRET_KEY,
             "ORIGINS": e.CSRF_TRUSTED_ORIGINS, "MEDIA_ROOT": str(e.MEDIA_ROOT),
             "MAIL": e.MAIL_SERVER, "FROM": e.EMAIL_FROM, "PROXIES": [*map(str, e.TRUSTED_PROXIES)],
             "FOLDER": str(e.BASE_DIR), "DATABASE": database.DATABASE,
             "HOST": e.HOST, "ADDRESS": e.ADDRESS}
    # What the libraries make of it, short of a connection.
    for host in e.ALLOWED_HOSTS:
        asked = "www" + host if host.startswith(".") else host.replace("*", "any.example")
        assert validate_host(split_domain_port(asked)[0], e.ALLOWED_HOSTS), host
    for origin in e.CSRF_TRUSTED_ORIGINS:
        assert "{0.scheme}://{0.netloc}".format(urlsplit(origin)) == origin, origin
    if "postgresql" in database.DATABASE["ENGINE"]:
        wrapper = DatabaseWrapper({**database.DATABASE, "TIME_ZONE": None, "CONN_MAX_AGE": 0,
                                   "AUTOCOMMIT": True, "CONN_HEALTH_CHECKS": False})
        parameters = wrapper.get_connection_params()
        for name in ("context", "cursor_factory", "prepare_threshold"):
            parameters.pop(name)
        psycopg.conninfo.timeout_from_conninfo(parameters)
        found["LIBPQ"] = psycopg.conninfo.conninfo_to_dict(
            psycopg.conninfo.make_conninfo(**parameters))
    if getattr(e, "REDIS_URL", ""):
        of_cache = RedisCacheClient([e.REDIS_URL], socket_connect_timeout=2, socket_timeout=2)
        for pool in (of_cache._get_connection_pool(True),
                     redis.ConnectionPool.from_url(e.REDIS_URL, socket_timeout=1),
                     aioredis.ConnectionPool.from_url(e.REDIS_URL, health_check_interval=15)):
            connection = pool.make_connection()
            seen = {name: getattr(connection, name, None)
                    for name in ("host", "port", "path", "db", "username", "password")}
            assert found.setdefault("REDIS", seen) == seen
            found["REDIS TLS"] = "SSL" in type(connection).__name__
    return found

def answer(variables):
    os.environ.clear()
    os.environ.update(inherited | variables)
    for name in [name for name in sys.modules if name.split(".")[0] == "config"]:
        del sys.modules[name]
    try:
        from config import environment, database
        environment.check_host()
        return believed(environment, database)
    except SystemExit as stopped:
        return {"sentence": str(stopped.code)}
    except BaseException:
        return {"traceback": traceback.format_exc()}

for line in sys.stdin:
    print(json.dumps(answer(json.loads(line)), default=str), flush=True)
"""

type Read = Callable[..., dict[str, Any]]

BASE = PRODUCTION | {"DATABASE_URL": URL}
# The same examples in each run; the machine may be slow.
examples = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


# What the values of a site without services depend on is a file of its own.
WAYS: list[Answers] = [
    {"interface": "both", "realtime": "channels", "database": "postgresql"},
    {"interface": "wsgi", "realtime": "none", "database": "sqlite"},
]


@pytest.fixture(scope="module", params=WAYS, ids=name_of)
def project(request: pytest.FixtureRequest, install: Bake) -> Project:
    return install(**request.param)


def has_services(project: Project) -> bool:
    return project.is_(database="postgresql")


@pytest.fixture(scope="module")
def read(project: Project) -> Iterator[Read]:
    """Return a function that tells what variables are to the site, or how its start ends."""
    base = BASE if has_services(project) else PRODUCTION
    with subprocess.Popen(
        ["python", "-c", READER],
        cwd=project.path,
        env=project.environment(**base),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def read(**variables: str) -> dict[str, Any]:
            process.stdin.write(f"{json.dumps(variables)}\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield read
        process.stdin.close()


def pieces(*known: str) -> st.SearchStrategy[str]:
    """Return texts of what is usual in a value, in any order, and of anything in between."""
    anything = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4)
    not_utf8 = st.binary(max_size=3).filter(lambda some: b"\0" not in some).map(os.fsdecode)
    usual = st.lists(st.sampled_from([*known, SECRET]), max_size=9).map("".join)
    mixed = st.lists(st.sampled_from(known) | anything | not_utf8, max_size=9).map("".join)
    return st.sampled_from(known) | usual | mixed


SECRET = "HuShHuSh"
IN_URLS = (
    "://", ":", "@", "/", "//", "#", "?", "%", "%25", "%40", "%2F", "%FF", "%00", "&", "=", ",",
    " ", "\n", "user", "é", "host", "[::1]", "[", "0", "70000", "5432",
)  # fmt: skip
NAMES = ("example", ".", "com", "EXAMPLE", "_", "-", "*", ",", " ", ":8000", "https://", "[::1]",
         "[0:0::1]", "[", "/", "é", "xn--e1a", "127.0.0.1", ":443", "http://", ":0")  # fmt: skip
NUMBERS = ("1", "0", "-", "+", ".", "_", "e", " ", "٣", "9" * 30, "true", "off", "yes", "n")
KNOWN = {
    "DJANGO_DEBUG": NUMBERS,
    "DJANGO_HTTPS": NUMBERS,
    "PORT": NUMBERS,
    "WEB_CONCURRENCY": NUMBERS,
    "DATABASE_TIMEOUT": NUMBERS,
    "PGOPTIONS": ("-c ", "search_path", "=", "shop", "\\ ", "--", "'", " ", "-c geqo=off"),
    "DJANGO_SECRET_KEY": ("key", " ", "'", '"', "\n", "\r"),
    "DJANGO_ALLOWED_HOSTS": NAMES,
    "DJANGO_CSRF_TRUSTED_ORIGINS": NAMES,
    "FORWARDED_ALLOW_IPS": ("10.0.0.0", "/8", "/", "::1", "fe80::1", "%eth0", ",", " ", "*", "999"),
    "HOST": ("127.0.0.1", "::1", "localhost", "[", "]", " ", "fe80::1%eth0", "0", "x86_64-conda"),
    "EMAIL_FROM": ("ada", "@", "example.com", "<", ">", " ", ",", "\n", '"', "é", "Bcc: ", "("),
    "MEDIA_ROOT": ("/", ".", "..", "~", "media", "config", "/srv", "é", " ", "manage.py"),
    "EMAIL_URL": (
        "smtp", "smtps", "smtp+tls", "smtp://localhost:25", "smtp://u:p%25@localhost",
        "smtp+tls://ada:p%40ss@Mail.example.com:587", "smtps://host/", *IN_URLS,
    ),
    "DATABASE_URL": (
        "postgres://ada:p%40ss@Db.example.com/Shop?sslmode=require", "sqlite:///a%20b/../c%23",
        "postgresql:///shop?host=/run/a", "postgresql://a,b:1/shop?user=ada&password=%25",
        "postgres", "postgresql", "postgis", "sqlite", "mysql", "name", ",", "connect_timeout",
        "sslmode", "require", "keepalives_idle", "service", "options", "pool", *IN_URLS,
    ),
    "REDIS_URL": (
        "redis://ada:p%40ss@Redis.example.com:1/2", "unix:///run/a%20b?db=3", "rediss://host",
        "redis", "rediss", "unix", "redis+sentinel", "db", "ssl_cert_reqs", "none", "protocol",
        "decode_responses", "ssl_ca_certs", *IN_URLS,
    ),
}  # fmt: skip
URLS = ("EMAIL_URL", "DATABASE_URL", "REDIS_URL")


def variables_of(project: Project) -> set[str]:
    """Return the variables that config/environment.py reads."""
    return set(re.findall(r'\benv\.\w+\(\s*"(\w+)"', project.read("config/environment.py")))


def test_every_variable_is_tried(project: Project) -> None:
    only_here = {"DATABASE_TIMEOUT", "PGOPTIONS", "REDIS_URL"}
    expected = set(MEANS) - (set() if has_services(project) else only_here)

    assert variables_of(project) == expected
    assert set(KNOWN) == set(MEANS)


@pytest.mark.parametrize("name", KNOWN)
def test_any_value_means_something_or_ends_the_start_in_a_sentence(
    project: Project, read: Read, name: str
) -> None:
    if name not in variables_of(project):
        return
    taken = 0

    @examples
    @given(value=pieces(*KNOWN[name]), debug=st.booleans())
    def test(value: str, debug: bool) -> None:
        nonlocal taken
        variables = {"DJANGO_DEBUG": str(debug), name: value}
        found = read(**variables)

        assert "traceback" not in found, found["traceback"]
        if sentence := found.get("sentence"):
            assert sentence.startswith("This site cannot start: ")
            assert name in sentence
            if name in URLS or name == "DJANGO_SECRET_KEY":
                assert SECRET not in sentence
        else:
            taken += 1
            MEANS[name](found, value)

    test()
    assert taken, "no value was taken, so nothing was compared"


# Of URLs that are right: what stands in them is what arrives.
words = st.text(st.characters(min_codepoint=33, codec="utf-8"), min_size=1, max_size=12).filter(
    str.isprintable
)
ascii_words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
servers = st.sampled_from(["host", "a.example.com", "10.0.0.1", "[::1]", "web_1"])
ports = st.integers(1, 65535)


def escaped(text: str) -> str:
    return quote(text, safe="")


@examples
@given(user=words, password=words, host=servers, port=ports, db=st.integers(0, 99))
@example(user="app", password="a/b#c?d@e:f%g;h,i", host="host", port=6379, db=0)
def test_redis_is_the_one_in_its_url(
    project: Project, read: Read, user, password, host, port, db
) -> None:
    if not has_services(project):
        return
    login = f"{escaped(user)}:{escaped(password)}@"
    for scheme in ("redis", "rediss"):
        found = read(REDIS_URL=f"{scheme}://{login}{host}:{port}/{db}")
        assert found["REDIS"] == {
            "host": host.strip("[]"), "port": port, "path": None, "db": db,
            "username": user, "password": password,
        }  # fmt: skip
        assert found["REDIS TLS"] == (scheme == "rediss")
    found = read(REDIS_URL=f"unix://{login}/run/a%20b/{escaped(user)}?db={db}")
    assert found["REDIS"]["path"] == f"/run/a b/{user}"
    assert (found["REDIS"]["db"], found["REDIS"]["password"]) == (db, password)


@examples
@given(user=words, password=words, host=servers, port=ports, name=words)
@example(user="u", password="a/b#c?d@e:f%g", host="[::1]", port=5432, name="x/y@z?w#v%25")
def test_postgresql_is_the_one_in_its_url(
    project: Project, read: Read, user, password, host, port, name
) -> None:
    if not has_services(project):
        return
    login = f"{escaped(user)}:{escaped(password)}@"
    common = {"user": user, "password": password, "dbname": name, "connect_timeout": "5"}
    for scheme in ("postgresql", "postgres"):
        found = read(DATABASE_URL=f"{scheme}://{login}{host}:{port}/{escaped(name)}")["LIBPQ"]
        expected = common | {"host": host.strip("[]"), "port": str(port)}
        assert {key: found[key] for key in expected} == expected
    # Those that a standby may answer instead of; and a socket, whose folder has capitals.
    found = read(DATABASE_URL=f"postgresql://{login}{host}:{port},b:1/{escaped(name)}")["LIBPQ"]
    assert (found["host"], found["port"]) == (f"{host.strip('[]')},b", f"{port},1")
    for url in ("%2Frun%2FPostgreSQL/{}", "/{}?host=/run/PostgreSQL"):
        found = read(DATABASE_URL=f"postgresql://{login}{url.format(escaped(name))}")["LIBPQ"]
        assert (found["host"], found["dbname"]) == ("/run/PostgreSQL", name)


@examples
@given(folder=words, file=words)
@example(folder="c#1", file="what?.sqlite3")
@example(folder="100%25", file="a b.sqlite3")
def test_sqlite_is_the_file_in_its_url(read: Read, project: Project, folder, file) -> None:
    path = project.path / file
    if "/" in file or path.is_dir():
        return
    for url in (f"sqlite:///{escaped(file)}", f"sqlite:///{quote(str(path))}"):
        found = read(DATABASE_URL=url, DJANGO_DEBUG="true")["DATABASE"]
        assert found["NAME"] == str(path)


@examples
@given(user=ascii_words, password=ascii_words, host=servers, port=ports)
def test_mail_server_is_the_one_in_its_url(read: Read, user, password, host, port) -> None:
    url = f"smtp+tls://{escaped(user)}:{escaped(password)}@{host}:{port}"
    assert read(EMAIL_URL=url)["MAIL"] == {
        "use_tls": True, "host": host.strip("[]"), "port": port,
        "username": user, "password": password,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgis://u:HuShHuSh@host/name"),
        ("DATABASE_URL", "postgresql://u:1/HuShHuSh@host/name"),
        ("DATABASE_URL", "postgresql://u:HuShHuSh@host/"),
        ("DATABASE_URL", "postgresql://u:HuShHuSh@host:70000/name"),
        ("DATABASE_URL", "postgresql://u:HuShHuSh@host/name?connect_timeout=soon"),
        ("DATABASE_URL", "postgresql://u:HuShHuSh@host/name?sslmode=yes"),
        ("DATABASE_URL", "postgresql://u:HuShHuSh@host/name?pgbouncer=true"),
        ("REDIS_URL", "redis://:HuShHuSh@host:port/0"),
        ("REDIS_URL", "redis://:1/HuShHuSh@host:6379/0"),
        ("REDIS_URL", "redis://:HuSh#HuSh@host:6379/0"),
        ("REDIS_URL", "redis://host:6379/zero"),
        ("REDIS_URL", "redis://a:6379,b:6379/0"),
        ("REDIS_URL", "redis+sentinel://:HuShHuSh@host:26379/mymaster"),
        ("REDIS_URL", "redis://host?decode_responses=true"),
        ("REDIS_URL", "rediss://host?ssl_ca_certs=/no/such/file"),
        ("DJANGO_ALLOWED_HOSTS", "example.com."),
        ("DJANGO_ALLOWED_HOSTS", "web_1"),
        ("DJANGO_ALLOWED_HOSTS", "пример.example"),
        ("DJANGO_ALLOWED_HOSTS", "[0:0:0:0:0:0:0:1]"),
        ("DJANGO_CSRF_TRUSTED_ORIGINS", "https://example.com/"),
        ("DJANGO_CSRF_TRUSTED_ORIGINS", "https://example.com:443"),
        ("DJANGO_SECRET_KEY", "'HuShHuSh'"),
        ("DJANGO_SECRET_KEY", "HuShHuSh\n"),
        ("EMAIL_FROM", "nobody"),
        ("EMAIL_FROM", "a@example.com, b@example.com"),
        ("MEDIA_ROOT", "config"),
        ("MEDIA_ROOT", "manage.py"),
    ],
)
def test_value_that_fails_later_is_refused_at_the_start(
    project: Project, read: Read, name: str, value: str
) -> None:
    if name not in variables_of(project):
        return
    sentence = read(**{name: value})["sentence"]

    assert name in sentence
    if name not in ("DJANGO_ALLOWED_HOSTS", "DJANGO_CSRF_TRUSTED_ORIGINS", "MEDIA_ROOT"):
        assert "HuSh" not in sentence


def test_database_is_not_among_the_uploads(read: Read, project: Project) -> None:
    url = f"sqlite:///{project.path}/db.sqlite3"
    sentence = read(DJANGO_DEBUG="true", DATABASE_URL=url, MEDIA_ROOT=str(project.path))["sentence"]

    assert "MEDIA_ROOT" in sentence
