"""
The options of database connections.

DATABASE_URL names the database (config/environment.py).
https://docs.djangoproject.com/en/6.1/ref/databases/
"""

{% if cookiecutter.__live %}
from hashlib import sha256
{% endif %}
from typing import Any

from config import environment

{% if cookiecutter.__postgresql %}
# If the database server is down or does not answer, queries fail within seconds. By
# default, a connection to a machine that is gone waits for 15 minutes.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
POSTGRESQL_OPTIONS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # milliseconds, until sent data is acknowledged
    "keepalives_idle": 10,  # when nothing is sent, as during a long query
    "keepalives_interval": 5,
    "keepalives_count": 2,
}

# Sent at the start of a session. PgBouncer refuses them, unless its setting
# ignore_startup_parameters lists them. With PgBouncer, use ALTER ROLE instead.
# https://www.postgresql.org/docs/current/runtime-config-client.html
SESSION_OPTIONS = {
    # Otherwise Django sends one more query to set it.
    "TimeZone": "UTC",
    # No page should take longer. README.md explains how to allow more for a report.
    "statement_timeout": "60s",
    # A third of it for a lock of another transaction: the page is then answered with 503,
    # and a slow query with 500 (serving/outages.py). If several wait for a lock, one may
    # wait twice: until it is the first of them, and for the lock.
    "lock_timeout": "20s",
    # An idle transaction keeps its locks.
    "idle_in_transaction_session_timeout": "60s",
}

{% endif %}
SQLITE_OPTIONS = {
    # Readers and one writer do not wait for each other.
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    # A transaction waits for the write lock at its start. If it asked for the lock later,
    # it could fail at once, with "database is locked".
    "transaction_mode": "IMMEDIATE",
    # Seconds to wait for that lock.
    "timeout": 20,
}

DATABASE: dict[str, Any] = environment.DATABASE
# Options in DATABASE_URL override these.
named = DATABASE["OPTIONS"]
{% if cookiecutter.__postgresql %}
if DATABASE["ENGINE"] == "django.db.backends.postgresql":
    # If an option is given twice, the last one is used.
    session = [f"-c {name}={value}" for name, value in SESSION_OPTIONS.items()]
    session += [environment.PGOPTIONS, named.get("options", "")]
    if environment.DATABASE_TIMEOUT is not None:
        session += [f"-c lock_timeout={environment.DATABASE_TIMEOUT * 1000 // 3}ms"]
        session += [
            f"-c {name}={environment.DATABASE_TIMEOUT}s"
            for name in SESSION_OPTIONS
            if name.endswith("timeout") and name != "lock_timeout"
        ]
    named["options"] = " ".join(session)
    DATABASE["OPTIONS"] = POSTGRESQL_OPTIONS | named
else:
    DATABASE["OPTIONS"] = SQLITE_OPTIONS | named
{% else %}
DATABASE["OPTIONS"] = SQLITE_OPTIONS | named
{% endif %}
{% if cookiecutter.__live %}

# Identifies this database. It is the same in all processes of the site.
address = [DATABASE.get(key, "") for key in ("ENGINE", "HOST", "PORT", "NAME")]
DATABASE_DIGEST = sha256(repr(address).encode()).hexdigest()[:16]
{% endif %}
