"""Everything that this project reads from its environment, each variable once.

Variables that are set already win over those in `.env`. A value that cannot be used ends
the process with a sentence that names the variable.
"""

import ipaddress
import os
from pathlib import Path
from typing import Any

from environs import Env, EnvValidationError, validate

from serving import values
from serving.values import stop as stop

BASE_DIR = Path(__file__).resolve().parent.parent


def available_cpus() -> int:
    """Return how many processors this process may keep busy, at least 1.

    That is fewer than the machine has when the process is pinned, or when its container has
    a quota (cgroup v2: https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max).
    """
    cpus = os.process_cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cpus, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2 here, or the quota is "max"
        return cpus


def check_host() -> None:
    """End the process if HOST is nothing to listen on; called where something listens."""
    if HOST == "localhost":
        return
    try:
        ipaddress.ip_address(HOST)
    except ValueError:
        stop(
            f"HOST is {HOST!r}, which is no address to listen on. Set it, for example to "
            "127.0.0.1. If conda has set it, type `unset HOST`."
        )


values.load_dotenv(BASE_DIR / ".env")

# Errors are collected and told together, below.
env = Env(eager=False)

DEBUG = env.bool("DJANGO_DEBUG", False)
SECRET_KEY = env.str("DJANGO_SECRET_KEY", "")
ALLOWED_HOSTS: list[str] = env.list("DJANGO_ALLOWED_HOSTS", [], subcast=str.strip)
CSRF_TRUSTED_ORIGINS: list[str] = env.list(
    "DJANGO_CSRF_TRUSTED_ORIGINS", [], subcast=str.strip
)
# False is for trying the production servers over plain http on one's own machine.
HTTPS = env.bool("DJANGO_HTTPS", not DEBUG)
DATABASE_URL = env.str("DATABASE_URL", "")
{% if cookiecutter.__postgresql %}
# libpq's own variable, which it does not read beside the options of config/database.py.
PGOPTIONS = env.str("PGOPTIONS", "")
# Seconds for a query and for a transaction in which nothing happens; 0 is no limit, and set
# by manage.py. None: what DATABASE_URL names, or else config/database.py.
DATABASE_TIMEOUT = env.int(
    "DATABASE_TIMEOUT", None, validate=validate.Range(min=0, max=2_000_000)
)
{% endif %}
{% if cookiecutter.__channels %}
# Empty: channel layer and cache are in this process's memory, which no other process sees.
REDIS_URL = env.str("REDIS_URL", "")
{% elif cookiecutter.__sse %}
# Empty: the cache is in this process's memory, and processes look into the database to see
# what was sent in another.
REDIS_URL = env.str("REDIS_URL", "")
{% endif %}
EMAIL_URL = env.str("EMAIL_URL", "smtp://localhost:25")
EMAIL_FROM = env.str("EMAIL_FROM", "") or "webmaster@localhost"
MEDIA_ROOT = BASE_DIR / (env.str("MEDIA_ROOT", "") or "media")
HOST = env.str("HOST", "") or "127.0.0.1"
PORT = env.int("PORT", 8000, validate=validate.Range(min=1, max=65535))
# Where to listen, as gunicorn and runserver want it: IPv6 in brackets.
ADDRESS = f"[{HOST}]:{PORT}" if ":" in HOST else f"{HOST}:{PORT}"
# None: each server chooses for itself.
WEB_CONCURRENCY = env.int("WEB_CONCURRENCY", None, validate=validate.Range(min=1, max=999))
FORWARDED_ALLOW_IPS: list[str] = env.list(
    "FORWARDED_ALLOW_IPS", ["127.0.0.1", "::1"], subcast=str.strip
)

try:
    env.seal()
except EnvValidationError as error:
    problems: Any = error.error_messages
    texts = [f"{name}: {' '.join(problems[name])}" for name in problems]
    stop(" ".join([*texts, "README.md says what it may be."]))
values.refuse_quotes(env.dump())

if DEBUG:
    SECRET_KEY = SECRET_KEY or "insecure-key-for-development-only"
    ALLOWED_HOSTS = ALLOWED_HOSTS or ["localhost", "127.0.0.1", "[::1]"]
if not SECRET_KEY.strip():
    stop(
        "DJANGO_SECRET_KEY is not set. While you develop, type `uv run just dev` to serve "
        "the site and `uv run just manage …` for any other command. In production, set it "
        "to a long random value, or copy .env.example to .env and set it there."
    )
ALLOWED_HOSTS = values.validated("DJANGO_ALLOWED_HOSTS", ALLOWED_HOSTS)
if not ALLOWED_HOSTS:
    stop(
        "DJANGO_ALLOWED_HOSTS is not set. List the names this site answers to, separated "
        "by commas, for example example.com,www.example.com."
    )
CSRF_TRUSTED_ORIGINS = values.validated("DJANGO_CSRF_TRUSTED_ORIGINS", CSRF_TRUSTED_ORIGINS)
TRUSTED_PROXIES = values.networks(FORWARDED_ALLOW_IPS)
EMAIL_FROM = values.sender(EMAIL_FROM)
MAIL_SERVER = values.mail_server(EMAIL_URL)
{% if cookiecutter.__live %}
REDIS_URL = values.redis(REDIS_URL) if REDIS_URL else ""
{% endif %}
{% if cookiecutter.__postgresql %}
# SQLite is for development without a server; production refuses it.
if DEBUG and (not DATABASE_URL or DATABASE_URL.startswith("sqlite:")):
    DATABASE = values.sqlite(DATABASE_URL or "sqlite:///db.sqlite3", BASE_DIR)
else:
    DATABASE = values.postgresql(DATABASE_URL)
{% else %}
DATABASE = values.sqlite(DATABASE_URL or "sqlite:///db.sqlite3", BASE_DIR)
{% endif %}
# Everything in it is served under /media/, which would be .env or the database as well.
private = [
    Path(__file__),
    BASE_DIR / "{{ cookiecutter.project_slug }}",
    Path(DATABASE["NAME"]),
]
if MEDIA_ROOT.is_file() or any(p.is_relative_to(MEDIA_ROOT.resolve()) for p in private):
    stop(
        f"MEDIA_ROOT is {str(MEDIA_ROOT)!r}, which is no folder, or has the code or the "
        "database of this project in it. Give uploads a folder of their own, such as media."
    )
