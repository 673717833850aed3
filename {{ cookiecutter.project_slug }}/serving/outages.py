# The template updates this file: see serving/README.md.
"""Outages of shared services, such as the database, without a log line per failed request.

The log has a line when an outage begins, one per minute while it lasts, and one at its end.
"""

import errno
import logging
import threading
import time
from typing import Any

import structlog
from django.db.backends.signals import connection_created
from django.db.utils import OperationalError

logger = structlog.get_logger(__name__)

# Seconds between two log lines about the same outage.
INTERVAL = 60

# How PostgreSQL's error codes begin if it is not the query's fault: connection, limits, a
# lock of another transaction, shutdown, disk.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
POSTGRESQL = ("08", "53", "55P03", "57P", "58")
# The same for SQLite (https://sqlite.org/rescode.html), and the exceptions of redis-py.
SQLITE = ("BUSY", "CANTOPEN", "FULL", "IOERR", "READONLY")
REDIS = {
    "ConnectionError",
    "TimeoutError",
    "ClusterDownError",
    "OutOfMemoryError",
    "ReadOnlyError",
}


class Outage:
    """The state of a service, as this process sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        # When the outage began; None while the service works.
        self.since: float | None = None
        # Whether it was logged, when that was, and the failures since then.
        self.logged = False
        self.logged_at = float("-inf")
        self.failures = 0

    def failed(self, error: BaseException) -> None:
        """Record a failure, and log it if it is time for a line."""
        now = time.monotonic()
        with self.lock:
            self.since = self.since or now
            self.failures += 1
            if now - self.logged_at < INTERVAL:
                return
            self.logged, self.logged_at = True, now
            failures, self.failures = self.failures, 0
        reason = " ".join(str(error).split())[:500] or repr(error)
        logger.error(f"{self.name} is away", error=reason, failures=failures)

    def works(self) -> None:
        """Record that the service works, and log the end of an outage."""
        if self.since is None:
            return
        with self.lock:
            since, self.since = self.since, None
            logged, self.logged = self.logged, False
            failures = self.failures
        if since and logged:
            seconds = round(time.monotonic() - since, 1)
            logger.info(f"{self.name} is back", seconds=seconds, failures=failures)


database, redis, storage = Outage("database"), Outage("Redis"), Outage("storage")


def outage_of(error: BaseException | None) -> Outage | None:
    """Return the service whose outage caused the error, or None.

    A query that is wrong or slow is no outage.
    """
    if isinstance(error, OperationalError):
        cause: Any = error.__cause__
        if name := getattr(cause, "sqlite_errorname", None):
            away = name.removeprefix("SQLITE_").startswith(SQLITE)
        else:
            # Without a code, PostgreSQL was not reached. The error of NOWAIT has the code
            # of lock_timeout, but a query asked for it. lock_timeout interrupts a query.
            code = getattr(cause, "sqlstate", None) or "08"
            lock = cause.diag.source_function if code == "55P03" else None
            away = code.startswith(POSTGRESQL) and lock in (None, "ProcessInterrupts")
        return database if away else None
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        # An upload cannot be written. The log does not say when there is room again.
        return storage
    # Compared by name, because a site may not have redis-py installed.
    for one in type(error).__mro__:
        if one.__module__ == "redis.exceptions" and one.__name__ in REDIS:
            return redis
    # Redis accepts no writes, because of its disk or replicas. There is no class for it.
    return redis if str(error).startswith(("MISCONF ", "NOREPLICAS ")) else None


def report(event: str, error: BaseException, **details: object) -> None:
    """Log an error of background work: as `event`, or as an outage."""
    if outage := outage_of(error):
        outage.failed(error)
    else:
        logger.error(event, exc_info=error, **details)


class Filter(logging.Filter):
    """Removes the tracebacks of outages from the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        outage = outage_of(error)
        # serving/unavailable.py has recorded those of 503 responses.
        if error and outage and getattr(record, "status_code", 0) != 503:
            outage.failed(error)
        return not outage


def connected(**kwargs: object) -> None:
    """Record that the database works: a connection was opened."""
    database.works()


connection_created.connect(connected)
