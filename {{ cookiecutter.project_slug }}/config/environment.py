"""All environment variables that this project reads.

Variables that are already set override those in `.env`. An invalid value ends the process
with a sentence that names the variable.
"""

import ipaddress
import os
from pathlib import Path
from typing import Any

from environs import Env, EnvValidationError, validate

from serving import env_values
from serving.env_values import stop as stop

BASE_DIR = Path(__file__).resolve().parent.parent


def available_cpus() -> int:
    """Return how many CPUs this process may use, at least 1.

    A CPU affinity or the quota of a container can allow fewer than the machine has (cpu.max
    of cgroup v2: https://docs.kernel.org/admin-guide/cgroup-v2.html).
    """
    cpus = os.process_cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cpus, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or the quota is "max"
        return cpus


def check_host() -> None:
    """End the process if HOST is not a valid address. Called before a server starts."""
    if HOST == "localhost":
        return
    try:
        ipaddress.ip_address(HOST)
    except ValueError:
        stop(
            f"HOST is {HOST!r}, which is not an address to listen on. Set it, for example "
            "to 127.0.0.1. If conda has set it, type `unset HOST`."
        )


env_values.load_dotenv(BASE_DIR / ".env")

# Errors are collected, and reported together below.
env = Env(eager=False)

DEBUG = env.bool("DJANGO_DEBUG", False)
SECRET_KEY = env.str("DJANGO_SECRET_KEY", "")
ALLOWED_HOSTS: list[str] = env.list("DJANGO_ALLOWED_HOSTS", [], subcast=str.strip)
CSRF_TRUSTED_ORIGINS: list[str] = env.list(
    "DJANGO_CSRF_TRUSTED_ORIGINS", [], subcast=str.strip
)
# False is for production servers on your own machine, over plain http.
HTTPS = env.bool("DJANGO_HTTPS", not DEBUG)
DATABASE_URL = env.str("DATABASE_URL", "")
{% if cookiecutter.__postgresql %}
# libpq ignores this if a connection has `options`. So config/database.py adds it to them.
PGOPTIONS = env.str("PGOPTIONS", "")
# Seconds, for a query and for an idle transaction. 0 means no limit; manage.py sets it.
# None: the values in DATABASE_URL, or those in config/database.py.
DATABASE_TIMEOUT = env.int(
    "DATABASE_TIMEOUT", None, validate=validate.Range(min=0, max=2_000_000)
)
{% endif %}
{% if cookiecutter.__channels %}
# Empty: each process has its own channel layer and cache, in its memory.
REDIS_URL = env.str("REDIS_URL", "")
{% elif cookiecutter.__sse %}
# Empty: each process has its own cache in its memory, and polls the database for
# notifications of other processes.
REDIS_URL = env.str("REDIS_URL", "")
{% endif %}
# With another one, `just dev` sends mails, too.
DEFAULT_EMAIL_URL = "smtp://localhost:25"
EMAIL_URL = env.str("EMAIL_URL", DEFAULT_EMAIL_URL)
EMAIL_FROM = env.str("EMAIL_FROM", "") or "webmaster@localhost"
MEDIA_ROOT = BASE_DIR / (env.str("MEDIA_ROOT", "") or "media")
HOST = env.str("HOST", "") or "127.0.0.1"
PORT = env.int("PORT", 8000, validate=validate.Range(min=1, max=65535))
# The address to listen on, for gunicorn and runserver: IPv6 in brackets.
ADDRESS = f"[{HOST}]:{PORT}" if ":" in HOST else f"{HOST}:{PORT}"
# None: each server has its own default.
WEB_CONCURRENCY = env.int("WEB_CONCURRENCY", None, validate=validate.Range(min=1, max=999))
FORWARDED_ALLOW_IPS: list[str] = env.list(
    "FORWARDED_ALLOW_IPS", ["127.0.0.1", "::1"], subcast=str.strip
)

try:
    env.seal()
except EnvValidationError as error:
    problems: Any = error.error_messages
    texts = [f"{name}: {' '.join(problems[name])}" for name in problems]
    stop(" ".join([*texts, "See README.md for valid env_values."]))
env_values.refuse_quotes(env.dump())

if DEBUG:
    SECRET_KEY = SECRET_KEY or "insecure-key-for-development-only"
    ALLOWED_HOSTS = ALLOWED_HOSTS or ["localhost", "127.0.0.1", "[::1]"]
if not SECRET_KEY.strip():
    stop(
        "DJANGO_SECRET_KEY is not set. While you develop, type `uv run just dev` to serve "
        "the site and `uv run just manage …` for any other command. In production, set it "
        "to a long random value, or copy .env.example to .env and set it there."
    )
ALLOWED_HOSTS = env_values.validated("DJANGO_ALLOWED_HOSTS", ALLOWED_HOSTS)
if not ALLOWED_HOSTS:
    stop(
        "DJANGO_ALLOWED_HOSTS is not set. List the host names of this site, separated by "
        "commas, for example example.com,www.example.com."
    )
CSRF_TRUSTED_ORIGINS = env_values.validated(
    "DJANGO_CSRF_TRUSTED_ORIGINS", CSRF_TRUSTED_ORIGINS
)
TRUSTED_PROXIES = env_values.networks(FORWARDED_ALLOW_IPS)
EMAIL_FROM = env_values.sender(EMAIL_FROM)
MAIL_SERVER = env_values.mail_server(EMAIL_URL)
{% if cookiecutter.__live %}
REDIS_URL = env_values.redis(REDIS_URL) if REDIS_URL else ""
{% endif %}
{% if cookiecutter.__postgresql %}
# Without DATABASE_URL, development uses SQLite. In production it is an error.
if DEBUG and (not DATABASE_URL or DATABASE_URL.startswith("sqlite:")):
    DATABASE = env_values.sqlite(DATABASE_URL or "sqlite:///db.sqlite3", BASE_DIR)
else:
    DATABASE = env_values.postgresql(DATABASE_URL)
{% else %}
DATABASE = env_values.sqlite(DATABASE_URL or "sqlite:///db.sqlite3", BASE_DIR)
{% endif %}
# Files in MEDIA_ROOT are public. It must not contain .env, the code or the database.
private = [
    Path(__file__),
    BASE_DIR / "{{ cookiecutter.project_slug }}",
    Path(DATABASE["NAME"]),
]
if MEDIA_ROOT.is_file() or any(p.is_relative_to(MEDIA_ROOT.resolve()) for p in private):
    stop(
        f"MEDIA_ROOT is {str(MEDIA_ROOT)!r}, which is not a folder, or contains the code "
        "or the database of this project. Give uploads their own folder, such as media."
    )
