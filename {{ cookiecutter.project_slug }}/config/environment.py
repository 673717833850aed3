"""Everything that this project reads from its environment, each variable once.

Variables that are set already win over those in `.env`. A value that cannot be used ends
the process with a sentence that names the variable.
"""

import ipaddress
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from dotenv import load_dotenv
from environs import Env, EnvValidationError, validate

BASE_DIR = Path(__file__).resolve().parent.parent

# A name, an address (IPv6 in brackets), all subdomains (.example.com), or everything (*).
HOST_NAME = re.compile(r"[\w.-]+|\[[0-9A-Fa-f:.]+\]|\*")

# What EMAIL_URL may begin with: how the connection is encrypted, and the usual port.
MAIL_SCHEMES: dict[str, tuple[dict[str, bool], int]] = {
    "smtp": ({}, 25),
    "smtp+tls": ({"use_tls": True}, 587),  # STARTTLS
    "smtps": ({"use_ssl": True}, 465),  # TLS from the first byte
}
MAIL_HOST = re.compile(r"[\w.:-]+")
LOCAL_HOST = re.compile(r"localhost|127(\.\d+){3}|::1")

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def stop(sentence: str) -> NoReturn:
    """End the process with exit status 1, saying only `sentence`."""
    sys.exit(f"This site cannot start: {sentence}")


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


def networks(addresses: list[str]) -> list[Network]:
    """Return the networks that `addresses` name, each an IP address or a CIDR network."""
    try:
        return [ipaddress.ip_network(address) for address in addresses]
    except ValueError as error:
        # Not even "*": whoever is believed can choose any address for itself.
        stop(
            f"FORWARDED_ALLOW_IPS has an entry that is no address or network ({error}). "
            "List those of your proxies, for example 10.0.0.0/8."
        )


def mail_server(url: str) -> dict[str, Any]:
    """Return the options of MAILERS that say how mails get to the server at `url`.

    smtp+tls:// and smtps:// check the server's certificate, and send nothing to a server
    that does not encrypt.
    """
    # No sentence repeats the URL: it has a password in it, and sentences go to the logs.
    scheme = url.partition("://")[0]
    if scheme not in MAIL_SCHEMES:
        stop(
            "EMAIL_URL begins with none of smtp+tls:// (STARTTLS), smtps:// (TLS from the "
            "first byte) and smtp:// (in clear). Set it, for example to "
            "smtp+tls://user:password@host:587."
        )
    encryption, usual_port = MAIL_SCHEMES[scheme]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        user = unquote(parts.username or "", errors="strict")
        password = unquote(parts.password or "", errors="strict")
        rest = parts.path.removeprefix("/") + parts.query + parts.fragment
    except ValueError:  # a port that is no number, or bytes that are no UTF-8
        host = ""
    if not MAIL_HOST.fullmatch(host) or port == 0 or rest:
        stop(
            "EMAIL_URL does not name a mail server. Set it, for example to "
            "smtp+tls://user:password@host:587, with nothing after the port. In user and "
            "password / is %2F, ? is %3F, # is %23, @ is %40, : is %3A and % is %25."
        )
    if bool(user) != bool(password):
        stop("EMAIL_URL has a user or a password, but not the other: user:password@host.")
    if scheme == "smtp" and password and not LOCAL_HOST.fullmatch(host):
        stop(
            f"EMAIL_URL would send a password to {host} in clear. Let it begin with "
            "smtp+tls:// (STARTTLS, mostly port 587) or smtps:// (TLS, mostly port 465)."
        )
    return encryption | {
        "host": host,
        "port": port or usual_port,
        "username": user,
        "password": password,
    }


# What is written there is meant: a $ begins no variable. Windows puts a mark at the start.
try:
    load_dotenv(BASE_DIR / ".env", interpolate=False, encoding="utf-8-sig")
except UnicodeDecodeError:
    stop("the file .env is not in UTF-8. Save it in that encoding.")

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
DATABASE = env.dj_db_url("DATABASE_URL", f"sqlite:///{BASE_DIR / 'db.sqlite3'}")
{% if cookiecutter.__postgresql %}
# libpq's own variable, which it does not read beside the options of config/database.py.
PGOPTIONS = env.str("PGOPTIONS", "")
# Seconds for a query and for a transaction in which nothing happens; 0 is no limit, and set
# by manage.py. None: what DATABASE_URL names, or else config/database.py.
DATABASE_TIMEOUT = env.int("DATABASE_TIMEOUT", None, validate=validate.Range(min=0))
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
WEB_CONCURRENCY = env.int("WEB_CONCURRENCY", None, validate=validate.Range(min=1))
FORWARDED_ALLOW_IPS: list[str] = env.list(
    "FORWARDED_ALLOW_IPS", ["127.0.0.1", "::1"], subcast=str.strip
)

try:
    env.seal()
except EnvValidationError as error:
    problems: Any = error.error_messages
    stop(" ".join(f"{name}: {' '.join(problems[name])}" for name in problems))

if BASE_DIR.is_relative_to(MEDIA_ROOT.resolve()):
    # Everything in it is served under /media/, which would be .env as well.
    stop(
        f"MEDIA_ROOT is {str(MEDIA_ROOT)!r}, the folder of this project or one around it. "
        "Give uploads a folder of their own, for example media."
    )
TRUSTED_PROXIES = networks(FORWARDED_ALLOW_IPS)
MAIL_SERVER = mail_server(EMAIL_URL)

if DEBUG:
    SECRET_KEY = SECRET_KEY or "insecure-key-for-development-only"
    ALLOWED_HOSTS = ALLOWED_HOSTS or ["localhost", "127.0.0.1", "[::1]"]
if not SECRET_KEY:
    stop(
        "DJANGO_SECRET_KEY is not set. While you develop, type `uv run just dev` to serve "
        "the site and `uv run just manage …` for any other command. In production, set it "
        "to a long random value, or copy .env.example to .env and set it there."
    )
ALLOWED_HOSTS = [host for host in ALLOWED_HOSTS if host]
if wrong := [host for host in ALLOWED_HOSTS if not HOST_NAME.fullmatch(host)]:
    stop(
        f"DJANGO_ALLOWED_HOSTS has {wrong[0]!r}, which is no host name. List names alone, "
        "without https:// and without a port, for example example.com,www.example.com."
    )
if not ALLOWED_HOSTS:
    stop(
        "DJANGO_ALLOWED_HOSTS is not set. List the names this site answers to, separated "
        "by commas, for example example.com,www.example.com."
    )
{% if cookiecutter.__live %}
if REDIS_URL and not REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
    stop("REDIS_URL does not name a Redis. Set it, for example to redis://host:6379/0.")
{% endif %}
{% if cookiecutter.__postgresql %}
if not DEBUG and DATABASE["ENGINE"] != "django.db.backends.postgresql":
    stop(
        "DATABASE_URL does not name a PostgreSQL database. Set it, for example to "
        "postgresql://user:password@host:5432/name. While you develop on SQLite, type "
        "`uv run just dev` and `uv run just manage …`."
    )
{% else %}
if DATABASE["ENGINE"] != "django.db.backends.sqlite3":
    stop(
        "DATABASE_URL does not name an SQLite file, for example sqlite:////path/to/file. "
        "For another database install its driver and change config/database.py."
    )
{% endif %}
