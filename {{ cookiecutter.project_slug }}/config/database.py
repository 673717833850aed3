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
# A server that cannot be reached, or is lost, causes an error after seconds. By default, a
# connection to a lost machine waits for 15 minutes.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
POSTGRESQL_OPTIONS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # milliseconds, for what was sent
    "keepalives_idle": 10,  # where nothing is sent, as while a query runs
    "keepalives_interval": 5,
    "keepalives_count": 2,
}

# Sent at the start of a session. PgBouncer refuses them, unless they are listed in its
# ignore_startup_parameters: then remove them here, and set them with ALTER ROLE.
# https://www.postgresql.org/docs/current/runtime-config-client.html
SESSION_OPTIONS = {
    # Django would set it with a query of its own.
    "TimeZone": "UTC",
    # Nobody waits longer for a page. README.md explains how to allow more for a report.
    "statement_timeout": "60s",
    # Half of it for a lock that another transaction holds: the page is then answered with
    # 503, and a slow query with 500 (serving/outages.py).
    "lock_timeout": "30s",
    # An idle transaction keeps its locks.
    "idle_in_transaction_session_timeout": "60s",
}

{% endif %}
SQLITE_OPTIONS = {
    # Readers and one writer do not wait for each other.
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    # A transaction takes the write lock at its start, and waits for it. If it takes it
    # later, it fails at once with "database is locked".
    "transaction_mode": "IMMEDIATE",
    # Seconds to wait for that lock.
    "timeout": 20,
}

DATABASE: dict[str, Any] = environment.DATABASE
# Options that DATABASE_URL names win over these.
named = DATABASE["OPTIONS"]
{% if cookiecutter.__postgresql %}
if DATABASE["ENGINE"] == "django.db.backends.postgresql":
    # If an option is given twice, the last one is used.
    session = [f"-c {name}={value}" for name, value in SESSION_OPTIONS.items()]
    session += [environment.PGOPTIONS, named.get("options", "")]
    if environment.DATABASE_TIMEOUT is not None:
        session += [f"-c lock_timeout={environment.DATABASE_TIMEOUT * 500}ms"]
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
