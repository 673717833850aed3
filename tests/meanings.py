"""What each variable of the environment means to a site: the table behind tests/test_values.py."""

import re
from collections.abc import Callable
from email.utils import parseaddr
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# What DATABASE_URL is while another variable is tried.
URL = "postgresql://user:password@localhost:5432/name"

TRUE, FALSE = {"1", "t", "true", "y", "yes", "on"}, {"0", "f", "false", "n", "no", "off"}


def items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",")]


def truth(value: str) -> bool:
    """Return what a value says that is one of the usual words, in small or capital letters."""
    assert value.lower() in TRUE | FALSE
    return value.lower() in TRUE


def assert_database(found: dict[str, Any], value: str) -> None:
    """Check the parts of a URL against those that Python's own parser finds in it."""
    if "LIBPQ" not in found:
        path = unquote((value or "sqlite:///db.sqlite3").removeprefix("sqlite:///"))
        assert found["DATABASE"]["NAME"] == str(Path(found["FOLDER"]) / path)
        return
    parts = urlsplit(value or URL)
    assert parts.scheme in ("postgres", "postgresql")
    database, query = found["LIBPQ"], parse_qs(parts.query)
    # A query wins over what stands before it, in libpq.
    name = query.get("dbname", [unquote(parts.path[1:])])[-1]
    assert database.get("dbname", "") == name or "service" in query
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    for key, part in (("user", user), ("password", password)):
        assert database.get(key, "") == query.get(key, [unquote(part)])[-1]
    for host in database.get("host", "").split(","):
        assert host in unquote(hosts) or host in query["host"][-1]


def assert_redis(found: dict[str, Any], value: str) -> None:
    if not value:
        assert "REDIS" not in found
        return
    parts, redis = urlsplit(value), found["REDIS"]
    assert found["REDIS TLS"] == (parts.scheme == "rediss")
    assert (redis["password"] or "") == unquote(parts.password or "")
    assert (redis["username"] or "") == unquote(parts.username or "")
    if parts.scheme == "unix":
        assert redis["path"] == unquote(parts.path)
    else:
        # The client does not look for capitals.
        assert redis["host"].lower() == parts.hostname
        assert redis["port"] == (parts.port or 6379)
        assert redis["db"] == int(parts.path.strip("/") or 0)


def assert_mail(found: dict[str, Any], value: str) -> None:
    parts, mail = urlsplit(value), found["MAIL"]
    encryption = {"smtp": set(), "smtp+tls": {"use_tls"}, "smtps": {"use_ssl"}}[parts.scheme]
    assert {name for name in mail if name.startswith("use_")} == encryption
    assert mail["host"].lower() == parts.hostname
    assert mail["username"] == unquote(parts.username or "")
    assert mail["password"] == unquote(parts.password or "")
    assert mail["port"] == (parts.port or {"smtp": 25, "smtp+tls": 587, "smtps": 465}[parts.scheme])


def assert_host(found: dict[str, Any], value: str) -> None:
    host = value or "127.0.0.1"
    assert found["HOST"] == host
    assert found["ADDRESS"] == (f"[{host}]:8000" if ":" in host else f"{host}:8000")


def assert_sender(found: dict[str, Any], value: str) -> None:
    assert found["FROM"] == (value or "webmaster@localhost")
    # One address, and no line that would be a header of its own.
    assert "@" in parseaddr(found["FROM"])[1]
    assert found["FROM"].isprintable()


def assert_timeout(found: dict[str, Any], value: str) -> None:
    # The last one of a name is used.
    said = dict(re.findall(r"-c (\w+timeout)=(\w+)", found["LIBPQ"]["options"]))
    assert said.pop("lock_timeout") == f"{int(value) * 1000 // 3}ms"
    assert set(said.values()) == {f"{int(value)}s"}
    assert 0 <= int(value) <= 2_000_000


def assert_pgoptions(found: dict[str, Any], value: str) -> None:
    """After ours, so that it wins over them."""
    assert found["LIBPQ"]["options"].partition("session_timeout=60s ")[2].rstrip(" ") == (
        value.rstrip(" ")
    )


# What a site must be, of which a value is taken.
type Meaning = Callable[[dict[str, Any], str], object]
MEANS: dict[str, Meaning] = {
    "DJANGO_DEBUG": lambda found, value: same(found["DEBUG"], truth(value)),
    "DJANGO_HTTPS": lambda found, value: same(found["HTTPS"], truth(value)),
    "DJANGO_SECRET_KEY": lambda found, value: same(
        found["KEY"], value or "insecure-key-for-development-only"
    ),
    "DJANGO_ALLOWED_HOSTS": lambda found, value: same(
        found["ALLOWED_HOSTS"],
        [name.lower() for name in items(value) if name] or ["localhost", "127.0.0.1", "[::1]"],
    ),
    "DJANGO_CSRF_TRUSTED_ORIGINS": lambda found, value: same(
        found["ORIGINS"], [origin.lower() for origin in items(value) if origin]
    ),
    "DATABASE_URL": assert_database,
    "PGOPTIONS": assert_pgoptions,
    "DATABASE_TIMEOUT": assert_timeout,
    "REDIS_URL": assert_redis,
    "EMAIL_URL": assert_mail,
    "EMAIL_FROM": assert_sender,
    "MEDIA_ROOT": lambda found, value: same(
        found["MEDIA_ROOT"], str(Path(found["FOLDER"]) / (value or "media"))
    ),
    "HOST": assert_host,
    "PORT": lambda found, value: same(found["PORT"], number(value, 65535)),
    "WEB_CONCURRENCY": lambda found, value: same(found["WEB_CONCURRENCY"], number(value, 999)),
    "FORWARDED_ALLOW_IPS": lambda found, value: same(
        found["PROXIES"], [str(ip_network(address)) for address in items(value) if value]
    ),
}


def same(found: object, expected: object) -> None:
    assert found == expected


def number(value: str, most: int) -> int:
    assert 0 < int(value) <= most
    return int(value)
