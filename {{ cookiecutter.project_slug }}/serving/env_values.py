# The template updates this file: see serving/README.md.
"""Parses the values of environment variables; config/environment.py lists the variables.

Each function returns what Django needs, or ends the process with a sentence that names the
variable. The sentence never contains a URL, because URLs may contain passwords.
"""

import ipaddress
import os
import re
import sys
from collections.abc import Iterable
from email import policy
from pathlib import Path
from typing import Any, NoReturn
{% if cookiecutter.__live %}
from urllib.parse import parse_qs, unquote
{% else %}
from urllib.parse import unquote
{% endif %}

from dotenv.parser import parse_stream
{% if cookiecutter.__postgresql %}
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
{% endif %}

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Host names as browsers send them: ASCII, without underscore and without a trailing dot.
NAME = r"(?:[a-z0-9-]+\.)*[a-z0-9-]+"
IPV6 = r"\[(?P<ipv6>[0-9a-f:.]+)\]"
NAMES = {
    "DJANGO_ALLOWED_HOSTS": (
        re.compile(rf"\.?{NAME}|\*|{IPV6}"),
        "which is no host name. List names only, without https:// and without a port, for "
        "example example.com,www.example.com. Letters other than a to z are written xn--…",
    ),
    "DJANGO_CSRF_TRUSTED_ORIGINS": (
        re.compile(
            r"(?!http://.*:80$|https://.*:443$)"
            rf"[a-z][a-z0-9+.-]*://((\*\.)?{NAME}|{IPV6})(:[1-9]\d*)?"
        ),
        "which no browser sends. List https:// and a host, followed only by a port that "
        "is not the default, for example https://example.com,https://*.example.org:8443.",
    ),
}
LOGIN = r"((?P<user>[^/?#:]*)(:(?P<password>[^/?#]*))?@)?"
SERVER = rf"{LOGIN}(?P<host>[\w.-]+|\[[\da-fA-F:.]+\])(:(?P<port>\d+))?"
ESCAPES = "In user and password / is %2F, ? is %3F, # is %23, @ is %40, : is %3A, % is %25."
# The schemes of EMAIL_URL: the encryption of the connection, and the default port.
MAIL_SCHEMES: dict[str, tuple[dict[str, bool], int]] = {
    "smtp": ({}, 25),
    "smtp+tls": ({"use_tls": True}, 587),  # STARTTLS
    "smtps": ({"use_ssl": True}, 465),  # TLS from the first byte
}
MAIL_URL = re.compile(rf"[a-z+]+://{SERVER}/?")
LOCAL_HOST = re.compile(r"localhost|127(\.\d+){3}|::1")
{% if cookiecutter.__live %}
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS = rf"({'|'.join(TLS_FILES)})=[^&#]+|ssl_check_hostname=(true|false)"
TLS = rf"({TLS}|ssl_cert_reqs=(none|optional|required))"
REDIS_URL = re.compile(rf"redis(s)?://{SERVER}(/\d*)?(?(1)(\?{TLS}(&{TLS})*)?)")
REDIS_FILE = re.compile(rf"unix://{LOGIN}/[^?#]+(\?db=\d+)?")
{% endif %}
SQLITE_URL = re.compile(r"sqlite:///(?P<path>([^?#%]|%[0-9A-Fa-f]{2})+)")
{% if cookiecutter.__postgresql %}
# If a password contains / or @, libpq reads a part of it as the host.
POSTGRESQL_URL = re.compile(r"postgres(ql)?://([^@/]*@)?[^@/?\s]*(/[^@/?]*)?(\?.*)?")
NUMBERS = re.compile(r"connect_timeout|tcp_user_timeout|keepalives\w*")
OPTIONS = {
    "port": re.compile(r"\d{0,5}(,\d{0,5})*"),
    "sslmode": re.compile("disable|allow|prefer|require|verify-ca|verify-full"),
    "target_session_attrs": re.compile(r"any|(read|prefer)-\w+|primary|standby"),
}
{% endif %}


def stop(sentence: str) -> NoReturn:
    """End the process with exit status 1, and print only `sentence`."""
    sys.exit(f"This site cannot start: {sentence}")


def load_dotenv(path: Path) -> None:
    """Set the variables of a .env file that are not set yet. It does not expand $NAME."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = list(parse_stream(file))
    except FileNotFoundError:
        return
    except OSError as error:
        stop(f"the file .env cannot be read: {error.strerror}.")
    except UnicodeDecodeError:
        stop("the file .env is not in UTF-8. Save it in that encoding.")
    for line in reversed(lines):  # the last value of a name is used
        if line.error or "\0" in line.original.string:
            stop(f"line {line.original.line} of .env is not NAME=value, or lacks a quote.")
        if line.key and line.value is not None:
            os.environ.setdefault(line.key, line.value)


def refuse_quotes(names: Iterable[str]) -> None:
    """Refuse line breaks, and surrounding quotes: docker and kubectl do not remove them."""
    for name in names:
        value = os.environ.get(name, "")
        if not value.isprintable():
            stop(f"{name} contains a line break, or a character that cannot be printed.")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            stop(f"{name} is in quotes, which are part of the value here. Remove them.")


def is_valid_name(name: str, pattern: re.Pattern[str]) -> bool:
    """Return whether `name` is as browsers send it. IPv6 must be in its short form."""
    try:
        match = pattern.fullmatch(name)
        short = match and match["ipv6"] and str(ipaddress.IPv6Address(match["ipv6"]))
    except ValueError:
        return False
    return match is not None and match["ipv6"] == short


def validated(variable: str, names: list[str]) -> list[str]:
    """Return the non-empty names of a variable in NAMES, in lower case."""
    pattern, advice = NAMES[variable]
    names = [name.lower() for name in names if name]
    for name in names:
        if not is_valid_name(name, pattern):
            stop(f"{variable} has {name!r}, {advice}")
    return names


def networks(addresses: list[str]) -> list[Network]:
    """Return `addresses` as networks; each is an IP address or a CIDR network."""
    try:
        return [ipaddress.ip_network(address) for address in addresses]
    except ValueError as error:
        # "*" is refused, too: a trusted client can forge any address.
        stop(
            f"FORWARDED_ALLOW_IPS has an entry that is no address or network ({error}). "
            "List those of your proxies, for example 10.0.0.0/8."
        )


def parse_url(pattern: re.Pattern[str], url: str) -> dict[str, str] | None:
    """Return the decoded parts of `url`, or None if it does not match `pattern`."""
    match = pattern.fullmatch(url)
    if not match or "%00" in url:
        return None
    found = match.groupdict("")
    try:
        found = {name: unquote(part, errors="strict") for name, part in found.items()}
    except ValueError:  # not UTF-8
        return None
    return found if 0 < int(found.get("port") or 1) < 65536 else None


def sqlite(url: str, folder: Path) -> dict[str, Any]:
    """Return Django's settings for `url`. A relative path starts at `folder`."""
    found = parse_url(SQLITE_URL, url)
    if not found or found["path"] == ":memory:" or (folder / found["path"]).is_dir():
        stop(
            "DATABASE_URL does not name an SQLite file, for example "
            "sqlite:////path/to/file. In the path ? is %3F, # is %23 and % is %25. For "
            "another database install its driver and change config/database.py."
        )
    path = folder / found["path"]
    if not path.parent.is_dir():
        stop(f"DATABASE_URL names a file in {str(path.parent)!r}, which is not a folder.")
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": {}}
{% if cookiecutter.__postgresql %}


def postgresql(url: str) -> dict[str, Any]:
    """Return Django's settings for `url`, as parsed by libpq.

    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
    """
    try:
        found: dict[str, Any] = dict(conninfo_to_dict(url))
    except (ProgrammingError, UnicodeError):
        found = {}
    for name in filter(NUMBERS.fullmatch, found):
        found[name] = int(found[name]) if re.fullmatch(r"[0-9]{1,9}", found[name]) else None
    known = all(OPTIONS[name].fullmatch(found[name]) for name in OPTIONS if name in found)
    ports = filter(None, found.get("port", "").split(",")) if known else ["0"]
    if (
        not POSTGRESQL_URL.fullmatch(url)
        or not (0 < len(found.get("dbname", "")) < 64 or "service" in found)
        or not all(0 < int(port) < 65536 for port in ports)
        or None in found.values()
    ):
        stop(
            "DATABASE_URL does not name a PostgreSQL database. Set it, for example to "
            f"postgresql://user:password@host:5432/name. {ESCAPES} Options of libpq may "
            "follow after a ?; others, and engines such as PostGIS, go into "
            "config/database.py. While you develop on SQLite, type `uv run just dev` and "
            "`uv run just manage …`."
        )
    keys = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host"}
    parts = {key: found.pop(name, "") for key, name in (keys | {"PORT": "port"}).items()}
    return {"ENGINE": "django.db.backends.postgresql", **parts, "OPTIONS": found}
{% endif %}
{% if cookiecutter.__live %}


def redis(url: str) -> str:
    """Return `url` unchanged, if all Redis clients of this project read it the same way."""
    options = parse_qs(url.partition("?")[2]).items()
    files = [Path(option[0]) for name, option in options if name in TLS_FILES]
    known = parse_url(REDIS_URL, url) or parse_url(REDIS_FILE, url)
    if not known or not all(file.is_file() for file in files):
        stop(
            "REDIS_URL does not name a Redis. Set it, for example to redis://host:6379/0, "
            "to rediss://user:password@host:6379/0 (TLS) or to unix:///path/to/socket. "
            f"{ESCAPES} With TLS there may be options after a ?: ssl_ca_certs, "
            "ssl_certfile, ssl_keyfile, which are files, ssl_cert_reqs and "
            "ssl_check_hostname. Sentinel and cluster need other settings."
        )
    return url
{% endif %}


def mail_server(url: str) -> dict[str, Any]:
    """Return the options of MAILERS for the mail server at `url`.

    smtp+tls:// and smtps:// check the server's certificate, and send nothing to a server
    that does not encrypt.
    """
    scheme = url.partition("://")[0]
    if scheme not in MAIL_SCHEMES:
        stop(
            "EMAIL_URL must begin with smtp+tls:// (STARTTLS), smtps:// (TLS) or smtp:// "
            "(not encrypted). Set it, for example to smtp+tls://user:password@host:587."
        )
    encryption, usual_port = MAIL_SCHEMES[scheme]
    found = parse_url(MAIL_URL, url)
    if not found:
        stop(
            "EMAIL_URL does not name a mail server. Set it, for example to "
            f"smtp+tls://user:password@host:587, with nothing after the port. {ESCAPES}"
        )
    user, password, host = found["user"], found["password"], found["host"].strip("[]")
    if bool(user) != bool(password):
        stop("EMAIL_URL has a user or a password, but not the other: user:password@host.")
    if not (user + password).isascii():
        stop("EMAIL_URL has letters in user or password that SMTP cannot send.")
    if scheme == "smtp" and password and not LOCAL_HOST.fullmatch(host):
        stop(
            f"EMAIL_URL would send a password unencrypted to {host}. Use smtp+tls:// "
            "(STARTTLS, mostly port 587) or smtps:// (TLS, mostly port 465)."
        )
    port = int(found["port"] or usual_port)
    return encryption | {"host": host, "port": port, "username": user, "password": password}


def sender(address: str) -> str:
    """Return `address` unchanged, if it is one email address."""
    try:
        [found] = policy.SMTP.header_factory("from", address).addresses
    except (ValueError, IndexError):
        found = None
    if not found or not found.username.isascii() or not found.domain:
        stop("EMAIL_FROM is invalid. Set it, for example to Shop <shop@example.com>.")
    return address
