"""What is away is told to the log once, and to people with a 503."""

import errno
import logging
import sqlite3
import sys
from typing import Any

import pytest
import structlog
{% if cookiecutter.__postgresql %}
from django.db import OperationalError, ProgrammingError, connection, transaction
{% else %}
from django.db import OperationalError, ProgrammingError, connection
{% endif %}
from django.test import Client, RequestFactory
{% if cookiecutter.__postgresql %}
from psycopg import OperationalError as NotReached
from psycopg import errors
{% endif %}
{% if cookiecutter.__live %}
from redis import exceptions
{% endif %}
from structlog.testing import capture_logs

from serving import logs, outages
from serving.outages import Outage, outage_of
from serving.unavailable import server_error


def of_sqlite(name: str) -> OperationalError:
    """Return Django's error for one of SQLite."""
    error, cause = OperationalError("so it is"), sqlite3.OperationalError()
    cause.sqlite_errorname = name
    error.__cause__ = cause
    return error
{% if cookiecutter.__postgresql %}


def of_postgresql(cause: Exception) -> OperationalError:
    """Return Django's error for one of psycopg."""
    error = OperationalError("so it is")
    error.__cause__ = cause
    return error
{% endif %}


@pytest.mark.parametrize(
    "error",
    [
        of_sqlite("SQLITE_BUSY"),
        of_sqlite("SQLITE_CANTOPEN_ISDIR"),
        of_sqlite("SQLITE_FULL"),
        of_sqlite("SQLITE_READONLY"),
{% if cookiecutter.__postgresql %}
        of_postgresql(NotReached("connection refused")),
        of_postgresql(errors.AdminShutdown()),
        of_postgresql(errors.CannotConnectNow()),
        of_postgresql(errors.TooManyConnections()),
        of_postgresql(errors.DiskFull()),
        # Another transaction holds a lock for too long.
        of_postgresql(errors.LockNotAvailable()),
{% endif %}
    ],
)
def test_database_that_answers_nobody_is_away(error: Exception) -> None:
    assert outage_of(error) is outages.database


@pytest.mark.parametrize(
    "error",
    [
        None,
        of_sqlite("SQLITE_ERROR"),
        ProgrammingError("no such table"),
        LookupError("wrong"),
        ConnectionError("of another site"),
{% if cookiecutter.__postgresql %}
        # A query that takes too long in itself, and two that wait for each other.
        of_postgresql(errors.QueryCanceled()),
        of_postgresql(errors.DeadlockDetected()),
{% endif %}
{% if cookiecutter.__live %}
        exceptions.DataError("wrong"),
        exceptions.ResponseError("WRONGTYPE"),
{% endif %}
    ],
)
def test_what_is_wrong_is_not_away(error: Exception | None) -> None:
    assert outage_of(error) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_an_outage_of_the_storage(number: int) -> None:
    assert outage_of(OSError(number, "full")) is outages.storage
    assert outage_of(OSError(errno.EACCES, "not yours")) is None


@pytest.mark.django_db
def test_query_that_is_wrong_is_not_away() -> None:
    with pytest.raises(Exception) as found, connection.cursor() as cursor:  # noqa: PT011
        cursor.execute("select nothing from nowhere")

    assert outage_of(found.value) is None
{% if cookiecutter.__postgresql %}


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no such locks")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("how", "is_away"), [("", True), (" nowait", False)])
def test_lock_is_away_after_a_time_but_not_for_a_query_that_does_not_wait(
    how: str, is_away: bool
) -> None:
    """A query with NOWAIT expects the error. If nobody catches it, the view is wrong."""
    other = connection.copy("other")
    try:
        with transaction.atomic(), other.cursor() as holder, connection.cursor() as cursor:
            other.set_autocommit(False)
            holder.execute("lock table django_session")
            cursor.execute("set local lock_timeout = '50ms'")
            with pytest.raises(OperationalError) as found, transaction.atomic():
                cursor.execute(f"lock table django_session{how}")
    finally:
        other.close()

    assert outage_of(found.value) is (outages.database if is_away else None)
{% endif %}
{% if cookiecutter.__live %}


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("refused"),
        exceptions.BusyLoadingError("loading"),
        exceptions.TimeoutError("hangs"),
        exceptions.ReadOnlyError("a replica"),
        exceptions.OutOfMemoryError("full"),
        exceptions.ResponseError("MISCONF cannot write"),
        exceptions.ResponseError("NOREPLICAS cannot write"),
    ],
)
def test_redis_that_answers_nobody_is_away(error: Exception) -> None:
    assert outage_of(error) is outages.redis
{% endif %}


def test_log_is_told_when_it_begins_once_a_minute_and_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("serving.outages.time.monotonic", lambda: now)
    one = Outage("moon")
    with capture_logs() as lines:
        one.works()
        for _ in range(600):
            one.failed(OSError("behind\n  clouds"))
            now += 0.2
        one.works()
        one.works()

    told = [(line["event"], line["log_level"], line["failures"]) for line in lines]
    assert told == [
        ("moon is away", "error", 1),
        ("moon is away", "error", 300),
        ("moon is back", "info", 299),
    ]
    assert lines[0]["error"] == "behind clouds"
    assert lines[2]["seconds"] == 120


def test_what_comes_and_goes_does_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("serving.outages.time.monotonic", lambda: now)
    one = Outage("moon")
    with capture_logs() as lines:
        for _ in range(600):
            one.failed(OSError())
            one.works()
            now += 0.2

    assert [line["event"] for line in lines] == ["moon is away", "moon is back"] * 2


def test_new_connection_to_the_database_ends_its_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outages, "database", Outage("database"))
    with capture_logs() as lines:
        outages.database.failed(of_sqlite("SQLITE_FULL"))
        outages.connected()

    assert [line["event"] for line in lines] == ["database is away", "database is back"]


def record_of(error: Exception | None, **extra: object) -> logging.LogRecord:
    """Return what a library logs of an error."""
    trace = (type(error), error, None) if error else None
    record = logging.LogRecord("library", logging.ERROR, "file.py", 1, "bad", (), trace)
    vars(record).update(extra)
    return record


def test_tracebacks_of_outages_are_one_line_and_others_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outages, "database", Outage("database"))
    away = of_sqlite("SQLITE_CANTOPEN")
    with capture_logs() as lines:
        assert outages.Filter().filter(record_of(None))
        assert outages.Filter().filter(record_of(LookupError("wrong")))
        # A page that is a 503 has told of it.
        assert not outages.Filter().filter(record_of(away, status_code=503))
        assert lines == []
        assert not outages.Filter().filter(record_of(away))
        assert not outages.Filter().filter(record_of(away))

    assert [line["event"] for line in lines] == ["database is away"]


def test_what_nobody_waits_for_has_its_traceback_unless_something_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outages, "database", Outage("database"))
    wrong = LookupError("wrong")
    with capture_logs() as lines:
        for error in (wrong, of_sqlite("SQLITE_BUSY")):
            outages.report("not done", error, topic="lobby")

    assert lines[0] == {
        "event": "not done",
        "log_level": "error",
        "exc_info": wrong,
        "topic": "lobby",
    }
    assert [line["event"] for line in lines[1:]] == ["database is away"]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (of_sqlite("SQLITE_CANTOPEN"), 503, "The database cannot be reached"),
        (OSError(errno.ENOSPC, "full"), 503, "The storage cannot be reached"),
        (LookupError("wrong"), 500, "Something went wrong"),
    ],
)
def test_page_says_whether_something_is_away_or_wrong(
    error: Exception, status: int, text: str
) -> None:
    try:
        raise error
    except Exception:
        response = server_error(RequestFactory().get("/"))

    assert response.status_code == status
    assert text in response.content.decode()
    assert response.headers.get("Retry-After") == ("10" if status == 503 else None)


@pytest.mark.django_db
def test_site_answers_with_that_page(
    client: Client, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.DEBUG = False
    client.raise_request_exception = False

    def away(*args: object) -> None:
        raise of_sqlite("SQLITE_CANTOPEN")

    monkeypatch.setattr("django.contrib.sessions.backends.db.SessionStore.load", away)
    client.cookies[settings.SESSION_COOKIE_NAME] = "a" * 32

    assert client.get("/admin/").status_code == 503
    # Its own page looks at the session as well.
    assert client.get("/no/such/page/").status_code == 503
{% if cookiecutter.__asgi %}


@pytest.mark.parametrize(
    ("path", "level", "message", "is_kept"),
    [
        ("uvicorn/protocols/websockets/impl.py", logging.INFO, '"WebSocket %s" 403', False),
        ("websockets/server.py", logging.INFO, "connection open", False),
        ("uvicorn/protocols/websockets/impl.py", logging.ERROR, "Invalid UTF-8 …", False),
        ("uvicorn/protocols/websockets/impl.py", logging.ERROR, "Exception in …", True),
        ("uvicorn/server.py", logging.INFO, "Started server process", True),
        ("websockets/uvicorn/server.py", logging.INFO, "Finished server process", True),
    ],
)
def test_sockets_are_told_of_by_the_access_line_only(
    path: str, level: int, message: str, is_kept: bool
) -> None:
    record = logging.LogRecord("uvicorn.error", level, f"/lib/{path}", 1, message, (), None)

    assert logs.SocketFilter().filter(record) == is_kept
{% endif %}


def test_refusal_is_a_warning_here_and_stays_an_error_for_other_handlers() -> None:
    """Sentry's, for example, which see the same record."""
    formatter = logs.Formatter(processors=[structlog.processors.JSONRenderer()])
    try:
        raise ValueError("odd")
    except ValueError:
        reason = sys.exc_info()
    record = logging.LogRecord("django.security.X", logging.ERROR, "", 1, "odd", (), reason)

    assert "Traceback" not in formatter.format(record)
    assert (record.levelno, record.levelname) == (logging.ERROR, "ERROR")
    assert record.exc_info is reason
