"""The settings of the tests: those of the site, but faster and the same on all machines."""

import os

os.environ["DJANGO_DEBUG"] = "true"
os.environ["DJANGO_HTTPS"] = "false"
os.environ["DJANGO_SECRET_KEY"] = "secret-of-the-tests"
{% if cookiecutter.__postgresql %}
# DATABASE_URL is not changed: set it to run the tests on PostgreSQL.
os.environ["DATABASE_TIMEOUT"] = "0"  # a debugger may keep a transaction open
{% else %}
os.environ["DATABASE_URL"] = "sqlite:///db.sqlite3"
{% endif %}
{% if cookiecutter.__live %}
# Without Redis, unless a CI has one that may be overwritten.
os.environ["REDIS_URL"] = os.environ.get("TEST_REDIS_URL", "")
{% endif %}
os.environ["DJANGO_ALLOWED_HOSTS"] = "testserver,localhost"
os.environ["HOST"] = ""
os.environ["FORWARDED_ALLOW_IPS"] = "127.0.0.1,10.0.0.0/8"

from config.settings import *  # noqa: F403
{% if cookiecutter.__asgi %}

# Otherwise open connections of threads would block the deletion of the test database.
DATABASES["default"]["CONN_MAX_AGE"] = 0  # noqa: F405

# A test with django_db is a transaction. With IMMEDIATE it would hold SQLite's write lock,
# and async code, which queries in another thread, could not write. What async code writes
# is not rolled back: such a test needs django_db(transaction=True).
DATABASES["default"]["OPTIONS"].pop("transaction_mode", None)  # noqa: F405

# In memory, SQLite fails if two threads use it at the same time. In a file one waits, as in
# production.
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":  # noqa: F405
    # Each run has its own file, so that two can run at the same time.
    name = BASE_DIR / f"db.sqlite3.test-{os.getpid()}"  # noqa: F405
    DATABASES["default"]["TEST"] = {"NAME": name}  # noqa: F405
{% endif %}

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Uploads of the tests must not stay in MEDIA_ROOT.
in_memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
STORAGES = STORAGES | {"default": in_memory}  # noqa: F405
