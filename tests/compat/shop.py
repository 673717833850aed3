"""A site with all packages, and what passed on it."""

import functools
import importlib
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests import compat
from tests.site import Site

# SQLite where every thread is gunicorn's; PostgreSQL where connections belong to threads of
# our own. Channels has the most beside a package: two servers, a proxy, sockets.
PROJECTS = {
    "wsgi": {"interface": "wsgi", "realtime": "none", "database": "sqlite"},
    "asgi": {"interface": "asgi", "realtime": "sse", "database": "postgresql"},
    "both": {"interface": "both", "realtime": "channels", "database": "postgresql"},
}
# Each address of tests/compat/extras is there twice; the second is the ASGI server's in `both`.
PREFIXES = {"wsgi": [""], "asgi": [""], "both": ["", "/async"]}

# What passed: the package, the interface, and whether with DEBUG.
passed: set[tuple[str, str, bool]] = set()
# The interfaces of which there was a project, with DEBUG and without.
tried: set[tuple[str, bool]] = set()
versions: dict[str, str] = {}
# What is done with each package: the first line of its test's docstring.
ROWS: dict[str, str] = {}
# What does not work yet with this Django, of which packages.
NOT_YET: dict[str, str] = {}


class Shop:
    """A site with all packages, and whoever works beside it."""

    def __init__(self, site: Site, debug: bool, spans: Path) -> None:
        self.site = site
        self.interface = site.project.answers["interface"]
        self.prefixes = PREFIXES[self.interface]
        self.debug = debug
        self.spans_file = spans

    @contextmanager
    def browser(self, user: str | None = None, address: str = "") -> Iterator[httpx.Client]:
        """Yield a client with cookies, at `address` if that matters, logged into the admin."""
        options: dict[str, Any] = {}
        if address and self.interface == "both":
            # Its proxy believes no client: it really has to come from there.
            options["transport"] = httpx.HTTPTransport(local_address=address)
        elif address:
            options["headers"] = {"X-Forwarded-For": address}
        with httpx.Client(
            base_url=self.site.origin, follow_redirects=True, timeout=60, **options
        ) as client:
            if user:
                response = self.log_in(client, user, f"password-of-{user}")
                assert response.url.path == "/", response.text
            yield client

    def log_in(self, client: httpx.Client, user: str, password: str) -> httpx.Response:
        return self.site.submit(client, "/admin/login/", username=user, password=password)

    def spans(self, word: str) -> list[dict[str, Any]]:
        """Return the spans in which `word` occurs."""
        return [json.loads(line) for line in self.spans_file.open() if word in line]


type Test = Callable[[Shop], None]


def row(package: str) -> Callable[[Test], Test]:
    """Name the package that a test is about."""

    def decorate(test: Test) -> Test:
        ROWS[package] = (test.__doc__ or "").strip().splitlines()[0]

        @functools.wraps(test)
        def noted(shop: Shop) -> None:
            test(shop)
            passed.add((package, shop.interface, shop.debug))

        return noted

    return decorate


def not_yet(package: str) -> Callable[[Test], Test]:
    """Name the package that cannot do yet what a test is about."""

    def decorate(test: Test) -> Test:
        NOT_YET[package] = (test.__doc__ or "").strip().splitlines()[0]
        return test

    return decorate


def word() -> str:
    """Return what occurs nowhere else."""
    return f"w{uuid.uuid4().hex[:12]}"


def rows() -> tuple[dict[str, str], dict[str, str]]:
    """Return ROWS and NOT_YET of all modules of tests, in the order of PACKAGES."""
    for path in compat.HERE.glob("test_*.py"):
        importlib.import_module(f"tests.compat.{path.stem}")
    order = list(compat.PACKAGES)

    def place(row: tuple[str, str]) -> int:
        return order.index(row[0])

    return dict(sorted(ROWS.items(), key=place)), dict(sorted(NOT_YET.items(), key=place))
