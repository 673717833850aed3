"""What the site says when its environment is not fit for production."""

{% if cookiecutter.__postgresql %}
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core import management

from config import environment
from manage import main
from serving import env_values
{% else %}
import os
import subprocess
import sys
from pathlib import Path

import pytest

from config import environment
from serving import env_values
{% endif %}

PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "DJANGO_DEBUG": "false",
    "DJANGO_SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz-0123456789abcdefghij",
    "DJANGO_ALLOWED_HOSTS": "example.com",
    "DJANGO_HTTPS": "true",
    "EMAIL_URL": "smtp://localhost:25",
    "FORWARDED_ALLOW_IPS": "127.0.0.1",
    "HOST": "",
    "PORT": "8000",
    "WEB_CONCURRENCY": "1",
{% if cookiecutter.__postgresql %}
    "DATABASE_URL": "postgresql://user:password@localhost:5432/name",
{% endif %}
{% if cookiecutter.__channels %}
    "REDIS_URL": "redis://localhost:6379/0",
{% endif %}
}


def manage(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py with the environment of production, but for `changes`."""
    return subprocess.run(  # noqa: S603
        [sys.executable, "manage.py", *arguments],
        env=os.environ | PRODUCTION | changes,
        capture_output=True,
        text=True,
        check=False,
    )


def setting(expression: str, **changes: str) -> str:
    """Return a setting or a value of `config.environment`, in a process of its own."""
    run = subprocess.run(  # noqa: S603
        [
            sys.executable,
            "-c",
            f"from config import environment, settings; print({expression})",
        ],
        env=os.environ | PRODUCTION | changes,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return run.stdout.rstrip("\n")


def test_production_passes_every_check() -> None:
    run = manage("check", "--deploy", "--fail-level", "WARNING")

    assert run.returncode == 0, run.stderr
    assert "no issues" in run.stdout


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DJANGO_SECRET_KEY", ""),
        ("DJANGO_ALLOWED_HOSTS", ""),
        ("DJANGO_ALLOWED_HOSTS", ","),
        ("DJANGO_ALLOWED_HOSTS", "https://example.com"),
        ("DJANGO_ALLOWED_HOSTS", "example.com:8000"),
        ("DJANGO_DEBUG", "perhaps"),
        ("DATABASE_URL", "nonsense"),
        ("EMAIL_URL", "nonsense"),
        ("EMAIL_URL", "smtp://user:password@mail.example.com:25"),
        ("FORWARDED_ALLOW_IPS", "*"),
{% if cookiecutter.__channels %}
        ("REDIS_URL", "localhost:6379"),
{% endif %}
        ("MEDIA_ROOT", "."),
        ("MEDIA_ROOT", "/"),
        ("PORT", "eighty"),
        ("WEB_CONCURRENCY", "0"),
    ],
)
def test_unfit_variable_stops_the_start_with_a_sentence(variable: str, value: str) -> None:
    run = manage("check", **{variable: value})

    assert run.returncode == 1
    assert run.stderr.startswith("This site cannot start: ")
    assert variable in run.stderr
    assert "Traceback" not in run.stderr


CONDA = {"HOST": "x86_64-conda-linux-gnu"}


@pytest.mark.parametrize(
    "server",
    [
{% if cookiecutter.__asgi %}
        ["config.uvicorn_conf"],
{% endif %}
{% if cookiecutter.__wsgi %}
        ["gunicorn", "--check-config", "--config", "config/gunicorn.conf.py"],
{% endif %}
    ],
)
def test_server_says_that_its_host_is_no_address(server: list[str]) -> None:
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-m", *server],
        env=os.environ | PRODUCTION | CONDA,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert run.returncode == 1
    assert "This site cannot start: HOST is 'x86_64-conda-linux-gnu'" in run.stderr
    assert "Traceback" not in run.stderr


def test_host_of_conda_is_no_matter_where_nothing_listens() -> None:
    run = manage("check", **CONDA)

    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("host", "address"),
    [("", "127.0.0.1:8000"), ("localhost", "localhost:8000"), ("::1", "[::1]:8000")],
)
def test_ipv6_is_in_brackets_where_a_port_follows(host: str, address: str) -> None:
    assert setting("environment.ADDRESS", HOST=host) == address


@pytest.mark.parametrize(
    ("value", "folder"),
    [("", "media"), ("uploads", "uploads"), ("/srv/media", "/srv/media")],
)
def test_uploads_have_a_folder_of_their_own(value: str, folder: str) -> None:
    """An empty MEDIA_ROOT is none: all files of the project were served under /media/."""
    expected = str(environment.BASE_DIR / folder)

    assert setting("settings.MEDIA_ROOT", MEDIA_ROOT=value) == expected


def test_empty_sender_is_the_usual_one() -> None:
    assert setting("settings.DEFAULT_FROM_EMAIL", EMAIL_FROM="") == "webmaster@localhost"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("smtp://localhost", {"port": 25}),
        ("smtp://relay:2525", {"host": "relay", "port": 2525}),
        ("smtp://u:p@127.0.0.1", {"host": "127.0.0.1", "password": "p"}),
        ("smtp+tls://u:p@host", {"port": 587, "use_tls": True}),
        ("smtps://u:p@host/", {"port": 465, "use_ssl": True}),
        ("smtp+tls://u%40x:p%2F%25@h", {"username": "u@x", "use_tls": True}),
        ("smtp://u:p%2F%25%40@localhost", {"password": "p/%@"}),
        ("smtp://[fd00::1]:26", {"host": "fd00::1", "port": 26}),
    ],
)
def test_mail_server_is_what_its_url_says(url: str, options: dict[str, object]) -> None:
    found = env_values.mail_server(url)

    assert found | options == found
    assert ("use_tls" in found, "use_ssl" in found) == (
        "use_tls" in options,
        "use_ssl" in options,
    )


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "must begin with"),
        ("localhost:25", "must begin with"),
        ("smtp+ssl://host", "must begin with"),
        ("submission://host", "must begin with"),
        ("smtp+tls://", "does not name a mail server"),
        ("smtp+tls://:587", "does not name a mail server"),
        ("smtp+tls://host one", "does not name a mail server"),
        ("smtp+tls://host:mail", "does not name a mail server"),
        ("smtp+tls://host:0", "does not name a mail server"),
        ("smtp+tls://host:65536", "does not name a mail server"),
        ("smtp+tls://[::1", "does not name a mail server"),
        ("smtp://host?tls=true", "does not name a mail server"),
        ("smtp+tls://u:1/secret@host", "does not name a mail server"),
        ("smtp+tls://u:1#secret@host", "does not name a mail server"),
        ("smtp+tls://u:secret%FF@host", "does not name a mail server"),
        ("smtp+tls://u@host", "but not the other"),
        ("smtp+tls://:secret@host", "but not the other"),
        ("smtp://u:secret@host:587", "unencrypted"),
        ("smtp://u:secret@127.0.0.1.example.com", "unencrypted"),
    ],
)
def test_mail_server_that_is_not_understood_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence) as stopped:
        env_values.mail_server(url)

    assert str(stopped.value).startswith("This site cannot start: EMAIL_URL ")
    assert "secret" not in str(stopped.value)


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("50000 100000", 1), ("250000 100000", 2), ("9900000 100000", 8), ("max 100000", 8)],
)
def test_container_with_a_quota_gets_fewer_processes(
    quota: str, cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8)
    monkeypatch.setattr(Path, "read_text", lambda path: quota)

    assert environment.available_cpus() == cpus
{% if not cookiecutter.__postgresql %}


def test_other_databases_are_refused_with_what_to_do() -> None:
    run = manage("check", DATABASE_URL="postgresql://user:password@localhost/name")

    assert run.returncode == 1
    assert "install its driver" in run.stderr
{% endif %}
{% if cookiecutter.__postgresql %}


def postgresql_options(query: str = "", **changes: str) -> dict[str, Any]:
    """Return the OPTIONS of the database in a process that manage.py did not start."""
    code = "import json, config.settings as s; print(json.dumps(s.DATABASES['default']))"
    # The tests themselves have no limit.
    inherited = dict(os.environ)
    inherited.pop("DATABASE_TIMEOUT")
    changes["DATABASE_URL"] = f"{PRODUCTION['DATABASE_URL']}?{query}"
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        env=inherited | PRODUCTION | changes,
        stdout=subprocess.PIPE,
        check=True,
    )
    options: dict[str, Any] = json.loads(run.stdout)["OPTIONS"]
    return options


def test_options_of_the_database_url_win() -> None:
    options = postgresql_options("connect_timeout=7&sslmode=require")

    assert (options["connect_timeout"], options["sslmode"]) == (7, "require")
    assert options["keepalives_idle"] == 10


def test_session_options_are_merged_and_the_last_one_counts() -> None:
    named = "options=-c%20statement_timeout%3D5s%20-c%20search_path%3Dshop"
    options = postgresql_options(named, PGOPTIONS="-c work_mem=8MB")["options"]

    limits = re.findall(r"-c statement_timeout=(\w+)", options)
    assert limits == ["60s", "5s"]
    assert "-c idle_in_transaction_session_timeout=60s" in options
    assert "-c work_mem=8MB" in options
    assert "-c search_path=shop" in options


def test_a_limit_of_the_environment_is_the_last_one() -> None:
    named = "options=-c%20statement_timeout%3D5s"
    options = postgresql_options(named, DATABASE_TIMEOUT="7")["options"]

    assert re.findall(r"-c statement_timeout=(\w+)", options)[-1] == "7s"
    assert options.endswith("-c idle_in_transaction_session_timeout=7s")
    assert re.findall(r"-c lock_timeout=(\w+)", options)[-1] == "2333ms"


@pytest.mark.parametrize(
    ("command", "limit"), [("migrate", "0"), ("shell", "0"), ("runserver", None)]
)
def test_commands_have_no_time_limit_but_servers_have(
    command: str, limit: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_TIMEOUT")
    monkeypatch.setattr(sys, "argv", ["manage.py", command])
    monkeypatch.setattr(management, "execute_from_command_line", list)

    main()

    assert os.environ.get("DATABASE_TIMEOUT") == limit


def test_production_does_not_fall_back_to_sqlite() -> None:
    run = manage("check", DATABASE_URL="sqlite:///db.sqlite3")

    assert run.returncode == 1
    assert "DATABASE_URL does not name a PostgreSQL database" in run.stderr
{% endif %}
{% if cookiecutter.__live %}


def test_names_in_redis_begin_with_the_prefix_of_this_site() -> None:
    of_site = "settings.CACHES['default']['KEY_PREFIX'] == settings.REDIS_PREFIX != ''"

    assert setting(of_site, REDIS_URL="redis://127.0.0.1:9/0") == "True"
{% endif %}
{% if cookiecutter.__channels %}


def test_several_processes_need_redis() -> None:
    run = manage("check", REDIS_URL="", WEB_CONCURRENCY="2")

    assert run.returncode == 1
    assert "chat.E001" in run.stderr
    assert manage("check", REDIS_URL="", WEB_CONCURRENCY="1").returncode == 0
{% endif %}
