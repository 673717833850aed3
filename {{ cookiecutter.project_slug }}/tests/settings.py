"""The settings of the tests: the site's, made quick and independent of the machine."""

import os

{% if cookiecutter.__postgresql %}
# DATABASE_URL is left alone: set it to test against the database of production.
os.environ["DATABASE_TIMEOUT"] = "0"  # a debugger may hold a transaction open
{% endif %}
os.environ["DJANGO_DEBUG"] = "true"
os.environ["DJANGO_HTTPS"] = "false"
os.environ["DJANGO_SECRET_KEY"] = "secret-of-the-tests"
os.environ["DJANGO_ALLOWED_HOSTS"] = "testserver,localhost"
os.environ["HOST"] = ""
os.environ["FORWARDED_ALLOW_IPS"] = "127.0.0.1,10.0.0.0/8"
{% if not cookiecutter.__postgresql %}
os.environ["DATABASE_URL"] = "sqlite:///db.sqlite3"
{% endif %}
{% if cookiecutter.__live %}
os.environ["REDIS_URL"] = ""
{% endif %}

from config.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# What a test uploads is not left among the uploads of the site.
in_memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
STORAGES = STORAGES | {"default": in_memory}  # noqa: F405
{% if cookiecutter.__asgi %}

# A connection that a thread keeps would hold up the end of the test database.
DATABASES["default"]["CONN_MAX_AGE"] = 0  # noqa: F405

# A test with django_db is a transaction. If it took SQLite's write lock at its start, async
# code could not, which queries in another thread. What that writes is not rolled back: such
# a test needs django_db(transaction=True).
DATABASES["default"]["OPTIONS"].pop("transaction_mode", None)  # noqa: F405

# In memory, SQLite refuses a thread that meets another; in a file it waits, as it does in
# production.
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":  # noqa: F405
    # Two runs at once have two files.
    name = BASE_DIR / f"db.sqlite3.test-{os.getpid()}"  # noqa: F405
    DATABASES["default"]["TEST"] = {"NAME": name}  # noqa: F405
{% endif %}
