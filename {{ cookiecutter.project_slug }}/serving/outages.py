# The template updates this file: see serving/README.md.
"""What many processes share and is away: the log hears of it, but not from all who meet it.

It has a line when that begins, one a minute while it lasts, and one when it is over.
"""

import logging
import threading
import time
from typing import Any

import structlog
from django.db.backends.signals import connection_created
from django.db.utils import OperationalError

logger = structlog.get_logger(__name__)

# Seconds between two lines about the same outage.
INTERVAL = 60

# Why PostgreSQL has no answer for anybody, by the beginning of its code: the connection, a
# limit, a shutdown, the disk. https://www.postgresql.org/docs/current/errcodes-appendix.html
POSTGRESQL = ("08", "53", "57P", "58")
# The same of SQLite (https://sqlite.org/rescode.html), and of Redis by the class.
SQLITE = ("BUSY", "CANTOPEN", "FULL", "IOERR", "READONLY")
REDIS = {
    "ConnectionError",
    "TimeoutError",
    "ClusterDownError",
    "OutOfMemoryError",
    "ReadOnlyError",
}


class Outage:
    """Something that may be away, as this process sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        # When it went away; None while it is there.
        self.since: float | None = None
        # Whether the log knows, when it was told, and how often it was away after that.
        self.told = False
        self.told_at = float("-inf")
        self.failures = 0

    def failed(self, error: BaseException) -> None:
        """Note that it was away for somebody."""
        now = time.monotonic()
        with self.lock:
            self.since = self.since or now
            self.failures += 1
            if now - self.told_at < INTERVAL:
                return
            self.told, self.told_at = True, now
            failures, self.failures = self.failures, 0
        reason = " ".join(str(error).split())[:500] or repr(error)
        logger.error(f"{self.name} is away", error=reason, failures=failures)

    def works(self) -> None:
        """Note that it is there."""
        if self.since is None:
            return
        with self.lock:
            since, self.since = self.since, None
            told, self.told = self.told, False
            failures = self.failures
        if since and told:
            seconds = round(time.monotonic() - since, 1)
            logger.info(f"{self.name} is back", seconds=seconds, failures=failures)


database, redis = Outage("database"), Outage("Redis")


def outage_of(error: BaseException | None) -> Outage | None:
    """Return what is away if that is the error, and not a query that is wrong or slow."""
    if isinstance(error, OperationalError):
        cause: Any = error.__cause__
        if name := getattr(cause, "sqlite_errorname", None):
            away = name.removeprefix("SQLITE_").startswith(SQLITE)
        else:
            # Without a code PostgreSQL was not reached.
            away = (getattr(cause, "sqlstate", None) or "08").startswith(POSTGRESQL)
        return database if away else None
    # Not imported: a site may have none.
    for one in type(error).__mro__:
        if one.__module__ == "redis.exceptions" and one.__name__ in REDIS:
            return redis
    # It takes no writes, for want of a disk or of replicas, and has no class for that.
    return redis if str(error).startswith(("MISCONF ", "NOREPLICAS ")) else None


def report(event: str, error: BaseException, **details: object) -> None:
    """Log why something failed for which nobody waits."""
    if outage := outage_of(error):
        outage.failed(error)
    else:
        logger.error(event, exc_info=error, **details)


class Filter(logging.Filter):
    """Takes the tracebacks of outages out of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        outage = outage_of(error)
        # A page that is a 503 has told of it (serving/unavailable.py).
        if error and outage and getattr(record, "status_code", 0) != 503:
            outage.failed(error)
        return not outage


def connected(**kwargs: object) -> None:
    """Note that there is a new connection to the database."""
    database.works()


connection_created.connect(connected)
