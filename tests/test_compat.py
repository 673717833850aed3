"""Packages that people add in their first weeks, in one project for each interface.

All are in the project at once, each as its own documentation says (tests/compat/). It is
started with its production command, with DEBUG off and on, and spoken to over HTTP.

docs/compat.md is made of what passes here: `uv run pytest -n0 -m compat --write-tables`.
"""

import csv
import functools
import io
import json
import re
import struct
import subprocess
import uuid
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests import compat, services
from tests.combinations import name_of
from tests.conftest import Bake
from tests.house import path_with_only
from tests.project import PRODUCTION, Project
from tests.services import ended, wait_until
from tests.site import COMMANDS, Site, next_frame, running, say

pytestmark = pytest.mark.compat

# SQLite where every thread is gunicorn's; PostgreSQL where connections belong to threads of
# our own. Channels has the most beside a package: two servers, a proxy, sockets.
PROJECTS = {
    "wsgi": {"interface": "wsgi", "realtime": "none", "database": "sqlite"},
    "asgi": {"interface": "asgi", "realtime": "sse", "database": "postgresql"},
    "both": {"interface": "both", "realtime": "channels", "database": "postgresql"},
}
COMMAND = {
    "wsgi": COMMANDS["gunicorn"],
    "asgi": COMMANDS["uvicorn"],
    "both": ["python", "-m", "config.serve"],  # `just serve`, prepared once for two starts
}
# Each address of tests/compat/extras is there twice; the second is the ASGI server's in `both`.
PREFIXES = {"wsgi": [""], "asgi": [""], "both": ["", "/async"]}

POLICY = "Content-Security-Policy"

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


@pytest.fixture(scope="session", autouse=True)
def table(request: pytest.FixtureRequest) -> Iterator[None]:
    """Write docs/compat.md, if asked to, of what has passed."""
    yield
    if request.config.getoption("--write-tables"):
        assert not hasattr(request.config, "workerinput"), "--write-tables needs -n0"
        compat.write_table(ROWS, NOT_YET, versions, tried, passed)


@pytest.fixture(scope="session")
def equipped(
    bake: Bake, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Project, dict[str, str]]]:
    """Return a function that makes the project of an interface, with all packages, once."""

    @functools.cache
    def equipped(interface: str) -> tuple[Project, dict[str, str]]:
        project = bake(**PROJECTS[interface])
        folder = tmp_path_factory.mktemp(interface)
        redis: str = request.getfixturevalue("redis")
        variables = PRODUCTION | {
            "DJANGO_HTTPS": "false",
            "WEB_CONCURRENCY": "2",
            "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
            # A queue of its own in the Redis of all.
            "REDIS_URL": redis.replace("/0", f"/{1 + list(PROJECTS).index(interface)}"),
            "SPANS": f"{folder}/spans",
        }
        if project.is_(database="postgresql"):
            server: services.PostgreSQL = request.getfixturevalue("postgresql")
            variables["DATABASE_URL"] = server.new_database()
        compat.equip(project, variables)
        versions.update(compat.versions(project))
        return project, variables

    return equipped


@pytest.fixture(
    scope="session",
    params=[(interface, debug) for interface in PROJECTS for debug in (False, True)],
    ids=lambda param: name_of(PROJECTS[param[0]]) + ("-debug" if param[1] else ""),
)
def shop(
    request: pytest.FixtureRequest,
    equipped: Callable[[str], tuple[Project, dict[str, str]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    """Each project in turn, started without DEBUG and with it, and its two workers."""
    interface, debug = request.param
    project, variables = equipped(interface)
    folder = tmp_path_factory.mktemp("shop")
    variables = variables | {"DJANGO_DEBUG": str(debug).lower()}
    if interface == "both":
        programs = path_with_only(["caddy"], folder / "bin")
        variables["PATH"] = f"{project.bin}:{programs}"

    with ExitStack() as stack:
        # Longer than for others: it imports a dozen packages, twice in `both`.
        site = stack.enter_context(
            running(
                project, COMMAND[interface], folder / "log", interface, seconds=180, **variables
            )
        )  # fmt: skip
        for name, command in {
            "celery": ["celery", "--app=config", "worker", "--concurrency=1"],
            "db_worker": ["python", "manage.py", "db_worker"],
        }.items():
            log = stack.enter_context((folder / name).open("wb"))
            process = subprocess.Popen(
                command,
                cwd=project.path,
                env=project.environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stack.enter_context(ended(process))
        tried.add((interface, debug))
        yield Shop(site, debug, Path(variables["SPANS"]))


def word() -> str:
    """Return what occurs nowhere else."""
    return f"w{uuid.uuid4().hex[:12]}"


def test_site_has_its_home_page_and_error_pages(shop: Shop) -> None:
    assert "is running" in shop.site.get("/").text
    unknown = shop.site.get("/no/such/page")
    assert unknown.status_code == 404
    if not shop.debug:
        assert "There is no page at this address" in unknown.text


def test_streams_and_sockets_of_the_site_open(shop: Shop) -> None:
    """Their requests pass through the middleware of all packages."""
    with shop.browser("ada") as client:
        if shop.site.project.is_(realtime="sse"):
            with client.stream("GET", "/events/") as stream:
                assert next(stream.iter_lines()).startswith("retry: ")
        if shop.site.project.is_(realtime="channels"):
            shop.site.sessions["ada"] = f"sessionid={client.cookies['sessionid']}"
            with shop.site.socket() as socket:
                say(socket, "hello")
                assert next_frame(socket, "message")["text"] == "hello"


def test_wider_policy_is_for_its_addresses_only(shop: Shop) -> None:
    """The recipe of docs/compat.md, for pages with scripts of their own."""
    for path in ("/cms/login/", "/silk/", "/graphql/"):
        policy = shop.site.get(path, headers={"Accept": "text/html"}).headers[POLICY]
        assert "script-src 'self' 'unsafe-inline'" in policy
    for prefix in shop.prefixes:
        for path in ("page", "apage", "agraphql"):
            page = shop.site.get(f"{prefix}/{path}/", headers={"Accept": "text/html"})
            assert "unsafe-inline" not in page.headers[POLICY]


@row("django-allauth")
def test_allauth(shop: Shop) -> None:
    """Sign-up, the mail with the link to confirm the address, log-in."""
    name, password = word(), word() + word()  # Django refuses one that is like the name
    with shop.browser() as client:

        def log_in() -> httpx.Response:
            return shop.site.submit(client, "/accounts/login/", login=name, password=password)

        page = shop.site.submit(
            client, "/accounts/signup/", email=f"{name}@example.com", username=name,
            password1=password, password2=password,
        )  # fmt: skip
        assert page.url.path == "/accounts/confirm-email/"
        assert log_in().url.path == "/accounts/confirm-email/"
        mail = shop.site.log.partition(f"To: {name}@example.com")[2].replace("=\n", "")
        link = re.search(rf"{shop.site.origin}(/accounts/confirm-email/\S+)", mail)
        assert link, mail
        shop.site.submit(client, link[1])
        assert log_in().url.path == "/"
        assert client.get(f"/change/{word()}/").json() == {"by": name}


@row("djangorestframework")
def test_rest_framework(shop: Shop) -> None:
    """A ModelViewSet, read by anybody and changed by who may; the browsable API."""
    for prefix in shop.prefixes:
        address, book = f"{prefix}/drf/books/", {"title": word(), "price": 3}
        with shop.browser() as client:
            assert "guarded" in [found["title"] for found in client.get(address).json()]
            assert client.post(address, json=book).status_code == 403
        with shop.browser("ada") as client:
            token = {"X-CSRFToken": client.cookies["csrftoken"]}
            assert client.post(address, json=book).status_code == 403
            created = client.post(address, json=book, headers=token)
            assert created.status_code == 201
            detail = f"{address}{created.json()['id']}/"
            assert client.get(detail).json() == created.json()
            page = client.get(detail, headers={"Accept": "text/html"})
            assert "<form" in page.text
            assert book["title"] in page.text


@row("django-ninja")
def test_ninja(shop: Shop) -> None:
    """A sync and an async operation, a wrong parameter, the documentation page."""
    for prefix in shop.prefixes:
        for operation in ("books", "abooks"):
            address = f"{prefix}/ninja/{operation}"
            (book,) = shop.site.get(f"{address}?title=guarded").json()
            assert book == {"id": book["id"], "title": "guarded", "price": 10}
            assert shop.site.get(address).status_code == 422
        assert "swagger" in shop.site.get(f"{prefix}/ninja/docs").text


@row("django-debug-toolbar")
def test_debug_toolbar(shop: Shop) -> None:
    """The panels are in a page with DEBUG, and nothing of them without."""
    for prefix in shop.prefixes:
        for page in ("page", "apage"):
            assert ('id="djDebug"' in shop.site.get(f"{prefix}/{page}/").text) == shop.debug


@not_yet("django-debug-toolbar")
def test_debug_toolbar_and_the_async_cache(shop: Shop) -> None:
    """With its cache panel the cache's `aincr()`, `aget_many()` and others raise AttributeError."""
    response = shop.site.get(f"{shop.prefixes[-1]}/acached/{word()}/")
    assert response.status_code == (500 if shop.debug else 200)
    if shop.debug:
        # Django compares methods, of which the panel has put functions in the place.
        assert "'function' object has no attribute '__func__'" in shop.site.log


@row("django-cors-headers")
def test_cors_headers(shop: Shop) -> None:
    """A request and a preflight of the allowed origin, and of another."""

    def allowed(method: str, path: str, origin: str) -> str | None:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        response = httpx.request(method, shop.site.origin + path, headers=headers, timeout=20)
        assert response.status_code == 200
        return response.headers.get("Access-Control-Allow-Origin")

    for prefix in shop.prefixes:
        for path in (f"{prefix}/page/", f"{prefix}/apage/"):
            for method in ("GET", "OPTIONS"):
                assert allowed(method, path, "https://shop.example") == "https://shop.example"
                assert allowed(method, path, "https://other.example") is None


@row("django-htmx")
def test_htmx(shop: Shop) -> None:
    """request.htmx in a sync and in an async view."""
    for prefix in shop.prefixes:
        for path in (f"{prefix}/page/", f"{prefix}/apage/"):
            assert "<p>the page</p>" in shop.site.get(path).text
            part = shop.site.get(path, headers={"HX-Request": "true", "HX-Target": "list"})
            assert "<p>a part for list</p>" in part.text


@row("django-filter")
def test_filter(shop: Shop) -> None:
    """A FilterView with a condition, and without."""
    for prefix in shop.prefixes:
        everything = shop.site.get(f"{prefix}/filter/").text
        assert "guarded" in everything
        assert "cheap" in everything
        cheap = shop.site.get(f"{prefix}/filter/?price__lt=5&title=cheap").text
        assert re.findall(r"<li>(.*)</li>", cheap) == ["cheap"]
        assert "<li>" not in shop.site.get(f"{prefix}/filter/?price__lt=5&title=guarded").text


@row("django-import-export")
def test_import_export(shop: Shop) -> None:
    """The export of the admin, as CSV."""
    with shop.browser("ada") as client:
        address = "/admin/extras/book/export/"
        form = client.get(address).text
        fields = dict.fromkeys(re.findall(r'<input type="checkbox" name="([^"]+)"', form), "on")
        option = re.search(r'<option value="(\d+)">csv', form)
        assert option, form
        export = shop.site.submit(client, address, format=option[1], **fields)
        assert export.headers["Content-Type"] == "text/csv"
        titles = [book["title"] for book in csv.DictReader(io.StringIO(export.text))]
        assert {"guarded", "cheap"} <= set(titles)


@row("django-simple-history")
def test_simple_history(shop: Shop) -> None:
    """The right user is recorded by sync and by async views, for two users at once."""
    with shop.browser("ada") as ada, shop.browser("bob") as bob, ThreadPoolExecutor(8) as pool:

        def change(client: httpx.Client, path: str) -> Any:
            return client.get(f"{path}/{word()}/").raise_for_status().json()["by"]

        for prefix in shop.prefixes:
            for path in (f"{prefix}/change", f"{prefix}/achange"):
                by_ada, by_bob = [], []
                for _ in range(8):
                    by_ada.append(pool.submit(change, ada, path))
                    by_bob.append(pool.submit(change, bob, path))
                assert {future.result() for future in by_ada} == {"ada"}
                assert {future.result() for future in by_bob} == {"bob"}


@row("django-guardian")
def test_guardian(shop: Shop) -> None:
    """A view for who has a permission on one object; others get 403."""
    for prefix in shop.prefixes:
        with shop.browser("carol") as client:
            assert client.get(f"{prefix}/guarded/guarded/").text == "carol may see guarded"
            assert client.get(f"{prefix}/guarded/cheap/").status_code == 403
        with shop.browser("dave") as client:
            assert client.get(f"{prefix}/guarded/guarded/").status_code == 403


@row("django-axes")
def test_axes(shop: Shop) -> None:
    """Three wrong passwords lock the client's address out, and no other."""
    unlucky, lucky = (f"127.{shop.debug + 1}.{number}.1" for number in (1, 2))
    with shop.browser(address=unlucky) as client:
        answers = [shop.log_in(client, "dave", "a guess").status_code for _ in range(3)]
        assert answers == [200, 200, 429]
        assert shop.log_in(client, "dave", "password-of-dave").status_code == 429
    with shop.browser("dave", address=lucky):
        pass
    with shop.browser("ada") as client:
        attempts = client.get("/admin/axes/accessattempt/").text
        assert unlucky in attempts
        assert lucky not in attempts


@row("django-silk")
def test_silk(shop: Shop) -> None:
    """Requests of sync and of async views are recorded, with their queries."""
    for prefix in shop.prefixes:
        for operation in ("books", "abooks"):
            title = word()
            address = f"{prefix}/ninja/{operation}"
            assert shop.site.get(f"{address}?title={title}").json() == []
            page = shop.site.get(f"/silk/requests/?path={address}&limit=200").text
            assert address in page


@row("django-redis")
def test_redis_cache(shop: Shop) -> None:
    """One cache for all processes, used by sync and by async views; a key's time to live."""
    for prefix in shop.prefixes:
        # The other with DEBUG: see test_debug_toolbar_and_the_async_cache.
        for view in ("cached",) if shop.debug else ("cached", "acached"):
            key = word()
            found = [shop.site.get(f"{prefix}/{view}/{key}/").json() for _ in range(8)]
            assert [answer["count"] for answer in found] == list(range(1, 9))
        assert 0 < shop.site.get(f"{prefix}/cached/{key}/").json()["ttl"] <= 60


def result_of(shop: Shop, start: str, result: str) -> list[Any]:
    """Start a task and return its result, which a worker has to bring."""
    key = shop.site.get(start).json()["id"]

    def ready() -> Any:
        return shop.site.get(f"{result}/{key}/").json()["ready"]

    # The first has to wait until its worker has started.
    wait_until(ready, f"the task of {start} is done", 120, pause=0.2)
    found: list[Any] = shop.site.get(f"{result}/{key}/").json()["result"]
    assert found[2] not in [process.pid for process in shop.site.note_family()]
    return found


@row("django-tasks-db")
def test_tasks(shop: Shop) -> None:
    """Tasks of Django's framework, from a sync and from an async view, done by db_worker."""
    for prefix in shop.prefixes:
        for start in (f"{prefix}/task/start/", f"{prefix}/atask/start/"):
            text = word()
            found, books, _ = result_of(shop, f"{start}{text}/", f"{prefix}/task/result")
            assert found == text
            assert books >= 2


@row("celery")
def test_celery(shop: Shop) -> None:
    """A task with a query goes through Redis to a worker, and its result comes back."""
    for prefix in shop.prefixes:
        text = word()
        found, books, _ = result_of(
            shop, f"{prefix}/celery/start/{text}/", f"{prefix}/celery/result"
        )
        assert found == text
        assert books >= 2


@row("strawberry-graphql")
def test_strawberry(shop: Shop) -> None:
    """A query over HTTP, sync and async; with Channels a query and a subscription as well."""
    hello = '{ hello(name: "Ada") }'
    for prefix in shop.prefixes:
        for view in ("graphql", "agraphql"):
            address = f"{shop.site.origin}{prefix}/{view}/"
            answer = httpx.post(address, json={"query": hello}, timeout=20).json()
            assert answer["data"] == {"hello": "Hello Ada"}
    if not shop.site.project.is_(realtime="channels"):
        return
    with connect(
        f"ws://localhost:{shop.site.port}/ws/graphql/",
        origin=shop.site.origin,  # type: ignore[arg-type]
        subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
        proxy=None,
    ) as socket:

        def ask(key: str, query: str) -> list[Any]:
            payload = {"query": query}
            socket.send(json.dumps({"id": key, "type": "subscribe", "payload": payload}))
            found = []
            while (frame := json.loads(socket.recv(timeout=15)))["type"] == "next":
                found.append(frame["payload"]["data"])
            assert frame == {"id": key, "type": "complete"}
            return found

        socket.send('{"type": "connection_init"}')
        assert json.loads(socket.recv(timeout=15))["type"] == "connection_ack"
        assert ask("1", hello) == [{"hello": "Hello Ada"}]
        assert ask("2", "subscription { count(target: 3) }") == [{"count": n} for n in range(3)]


def png() -> bytes:
    """Return a picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\x00\xff\x00\x00")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    )


@row("wagtail")
def test_wagtail(shop: Shop) -> None:
    """Log-in, an image uploaded, a page published and read."""
    title = word()
    with shop.browser() as client:
        shop.site.submit(
            client, "/cms/login/", username="ada", password="password-of-ada", next="/cms/"
        )
        page = client.get("/cms/images/add/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert token
        fields = {"csrfmiddlewaretoken": token[1]}
        files = {"file": (f"{title}.png", png(), "image/png")}
        uploaded = client.post(
            "/cms/images/add/", data=fields | {"title": title, "tags": ""}, files=files
        )
        assert uploaded.status_code == 200
        assert title in client.get("/cms/images/").text
        media = shop.site.project.path / "media" / "original_images" / f"{title}.png"
        assert media.read_bytes() == png()

        text = {"key": "a", "text": f"About {title}", "type": "unstyled", "depth": 0,
                "inlineStyleRanges": [], "entityRanges": []}  # fmt: skip
        counts = ("TOTAL_FORMS", "INITIAL_FORMS", "MIN_NUM_FORMS", "MAX_NUM_FORMS")
        published = client.post(
            "/cms/pages/add/extras/article/2/",
            data=fields
            | {f"comments-{count}": "0" for count in counts}
            | {
                "title": title,
                "slug": title,
                "body": json.dumps({"blocks": [text], "entityMap": {}}),
                "action-publish": "action-publish",
            },
        )
        assert published.url.path == "/cms/pages/2/", published.text
    article = shop.site.get(f"/articles/{title}/").text
    assert f"<h1>{title}</h1>" in article
    assert f"About {title}</p>" in article


@row("opentelemetry-instrumentation-django")
def test_opentelemetry(shop: Shop) -> None:
    """One span for each of many requests at once, with its route and status."""
    for prefix in shop.prefixes:
        for view in ("page", "apage"):
            paths = [f"{prefix}/{view}/{word()}/" for _ in range(10)]
            with ThreadPoolExecutor(10) as pool:
                list(pool.map(shop.site.get, paths))
            traces = set()
            for path in paths:
                wait_until(lambda path=path: shop.spans(path), f"there is a span of {path}")
                (span,) = shop.spans(path)
                assert span["kind"] == "SpanKind.SERVER"
                route = f"{prefix}/{view}/<word>/".removeprefix("/")
                assert span["attributes"]["http.route"] == route
                assert span["attributes"]["http.status_code"] == 200
                traces.add(span["context"]["trace_id"])
            assert len(traces) == 10


@row("django-anymail")
def test_anymail(shop: Shop) -> None:
    """A mail through anymail's own backend, named in MAILERS."""
    for prefix in shop.prefixes:
        subject = word()
        sent = shop.site.get(f"{prefix}/mail/{subject}/").json()
        assert sent == {"sent": 1, "status": ["sent"]}
        wait_until(lambda subject=subject: f"Subject: {subject}" in shop.site.log, "the mail")


def test_nothing_went_wrong_unseen(shop: Shop) -> None:
    # What axes tells; and what is not yet: each error has a line of its own beside its traceback.
    shop.site.assert_clean_log(
        but_for="AXES: |__func__|Server Error: (/async)?/acached/|^Traceback"
    )
