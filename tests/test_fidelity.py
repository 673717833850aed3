"""Nothing that works on Django as it ships is refused, hangs, leaks or goes unseen here.

Each test is a line of the table in docs/fidelity.md. It measures one server, and is called for
several with the same load: the emitted ones, and Django as it ships in the same project. One
process each, on a real PostgreSQL. See tests/fidelity/rows.py.
"""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services
from tests.conftest import Bake
from tests.fidelity import client
from tests.fidelity.client import count, streams, told
from tests.fidelity.outcomes import answered, begun, pages_while, together, traced
from tests.fidelity.rows import Bench, Measured, Outcome, row
from tests.fidelity.servers import PROBES, Server
from tests.project import PRODUCTION

pytestmark = pytest.mark.fidelity


@pytest.fixture(scope="session")
def many_connections() -> Iterator[services.PostgreSQL]:
    """A PostgreSQL that lets Django as it ships have as many connections as it likes."""
    with (
        tempfile.TemporaryDirectory(prefix="tests-fidelity-") as folder,
        services.postgresql(Path(folder), connections=1000) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def measured(
    request: pytest.FixtureRequest,
    install: Bake,
    many_connections: services.PostgreSQL,
    tmp_path_factory: pytest.TempPathFactory,
) -> Measured:
    """Every chosen row of a project, all measured together."""
    names = [
        item.originalname
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.path == Path(__file__)
        and item.callspec.params["measured"] == request.param
    ]
    project = install(**request.param)
    variables = PRODUCTION | {
        "DJANGO_SETTINGS_MODULE": "fidelity_settings",
        "PYTHONPATH": str(PROBES),
        "DJANGO_HTTPS": "false",
        "WEB_CONCURRENCY": "1",
        "DATABASE_URL": many_connections.new_database(),
    }
    if not project.is_(realtime="none"):
        variables["REDIS_URL"] = request.getfixturevalue("redis")
    project.must("python", "manage.py", "migrate", "--no-input", **variables)
    project.must("python", "manage.py", "collectstatic", "--no-input", **variables)
    folder = tmp_path_factory.mktemp("fidelity")
    bench = Bench(project, variables, many_connections, folder)
    return asyncio.run(bench.measure_all(names))


# Async views


@row("async view: query, wait 3 s for another site, answer; 100 at once")
async def test_async_views_that_queried_and_wait_are_all_answered(server: Server) -> Outcome:
    return await answered(server.all("/f/query-wait/?seconds=3", 100))


@row("the same with a second query after the wait; 40 at once")
async def test_async_views_that_query_again_are_all_answered(server: Server) -> Outcome:
    return await answered(server.all("/f/query-wait-query/?seconds=3", 40))


@row(
    "async view that only waits 12 s, with `LocaleMiddleware` and `LoginRequiredMiddleware`; "
    "30 at once",
    variables={
        "FIDELITY_MIDDLEWARE": "django.middleware.locale.LocaleMiddleware "
        "django.contrib.auth.middleware.LoginRequiredMiddleware"
    },
)
async def test_more_of_djangos_middleware_holds_nobody_up(server: Server) -> Outcome:
    return await answered(server.all("/f/wait/?seconds=12", 30))


@row(
    "the same with a middleware of the user's that is not async; 12 at once",
    variables={"FIDELITY_MIDDLEWARE": "fidelity_middleware.sync_only"},
)
async def test_sync_middleware_holds_nobody_up(server: Server) -> Outcome:
    return await answered(server.all("/f/wait/?seconds=12", 12))


@row("async view that keeps a value in a thread local while it waits; 60 at once")
async def test_thread_locals_are_never_lost_and_never_anothers(server: Server) -> Outcome:
    return await answered(server.all("/f/thread-local/?value={}", 60), '"own": true')


@row("async view that sets `search_path` and a setting on its connection, and waits; 60 at once")
async def test_settings_of_a_connection_are_never_lost_and_never_anothers(
    server: Server,
) -> Outcome:
    return await answered(server.all("/f/tenant/?value={}", 60), '"own": true')


@row("the same, read by the stream that the view returns; 40 at once")
async def test_state_of_a_view_is_there_in_its_stream(server: Server) -> Outcome:
    return await answered(server.all("/f/stream-of-tenant/?value={}", 40), "own ")


@row("pages, while 60 async views wait between two queries and 40 streams query")
async def test_pages_are_answered_beside_async_views_and_streams(server: Server) -> Outcome:
    async with streams(server.port, "/f/stream/", 40) as opened:
        views = await begun(server.all("/f/query-wait-query/?seconds=10", 60), 3)
        pages = await pages_while(server, views)
        replies = await views
        alive = sum(s.text.count("tick") >= 3 and not s.ended for s in opened)
    return together(
        pages,
        Outcome(f"views: {told(replies)}", {"views": (count(replies), 60)}),
        Outcome(f"{alive} streams alive", {"streams": (alive, 40)}),
    )


@row(
    "200 async views that query, wait 1 s and query again, at once",
    # Where each has a connection, PostgreSQL is not quick enough for all.
    stock_fails=("answered",),
    alone=True,
)
async def test_connections_stay_bounded_whatever_comes(server: Server) -> Outcome:
    views = asyncio.ensure_future(answered(server.all("/f/query-wait-query/?seconds=1", 200)))
    most = 0
    while not views.done():
        most = max(most, await server.backends())
        await asyncio.wait([views], timeout=0.1)
    # Whatever the bound is, it is no multiple of what comes.
    bounded = {"half as many connections as requests, at most": 0 < most <= 100}
    outcome = await views
    return together(outcome, Outcome(f"{most} connections", {}, bounded))


@row("404 pages and error pages, while 4 × `asyncio.to_thread` is busy for 6 s")
async def test_error_pages_wait_for_no_thread_of_the_views(server: Server) -> Outcome:
    busy = await begun(server.all("/f/to-thread/?seconds=6", 4), 1)
    missing, failed = await asyncio.gather(
        server.all("/no/such/page/", 6), server.all("/f/fail/", 6)
    )
    good = 0 if busy.done() else count(missing, 404) + count(failed, 500)
    slept = await busy
    return Outcome(
        f"{good} of 12 meanwhile: {told(missing + failed)}; the busy: {told(slept)}",
        {"meanwhile": (good, 12), "busy": (count(slept), 4)},
    )


@row("40 views that raise, and clients that leave; then 60 requests", both=("asgi", "wsgi"))
async def test_who_raises_or_leaves_takes_nothing_along(server: Server) -> Outcome:
    raised = await client.get_all(server.port, ["/f/fail/", "/f/fail-page/"] * 20)
    leavers = ["/f/query-wait-query/?seconds=3", "/f/hold-transaction/?seconds=1", "/f/stream/"]
    if "wsgi" in server.kind:
        # There a stream never gives its thread back, and four are answered at once.
        leavers = ["/f/query-wait-query/?seconds=1"]
    await client.get_all(server.port, leavers * 20, patience=0.7)
    later = ["/f/page/", "/f/query-wait-query/?seconds=0.1", "/f/hold-transaction/?seconds=0"]
    replies = await client.get_all(server.port, later * 20)
    open_ones = "state like 'idle in transaction%'"
    for _ in range(40):
        if not (left := await server.backends(open_ones)):
            break
        await asyncio.sleep(0.25)
    return Outcome(
        f"{told(raised)}; then {told(replies)}; {left} transactions left open",
        {
            "raised": (count(raised, 500), 40),
            "answered": (count(replies), 60),
            "no transaction left": (int(left == 0), 1),
        },
    )


@row("pages after an async view that blocks the event loop for 3 s")
async def test_blocked_event_loop_goes_on(server: Server) -> Outcome:
    blocked = await begun(server.all("/f/block-loop/?seconds=3", 1), 0.5)
    pages = await server.pages()
    good = 0 if blocked.done() else count(pages)
    text = f"{good} of 12 pages meanwhile; afterwards {told(pages)}"
    return Outcome(text, {"afterwards": (count(pages), 12)})


# Pages


@row(
    "page that takes 12 s (a slow site of somebody else); 12 at once",
    asgi=("asgi", "dev"), both=("asgi", "wsgi"),
)  # fmt: skip
async def test_slow_pages_are_all_answered(server: Server) -> Outcome:
    return await answered(server.all("/f/slow/?seconds=12", 12))


@row(
    "page that blocks for 50 ms, 64 connections: answers a second",
    both=("wsgi",), share=0.9, alone=True,
)  # fmt: skip
async def test_pages_that_wait_are_as_many_a_second(server: Server) -> Outcome:
    rate = await client.rate(server.port, "/f/block/", 64, warm_up=2, seconds=3)
    return Outcome(f"{rate:.0f}/s", {"rate": (rate, 1)})


@row("pages, while 4 streams are open that a sync view returned")
async def test_async_stream_of_a_sync_view_holds_no_page_up(server: Server) -> Outcome:
    async with streams(server.port, "/f/stream-from-page/", 4) as opened:
        await asyncio.sleep(1)
        pages = await pages_while(server)
        alive = sum(s.text.count("tick") >= 2 and not s.ended for s in opened)
    return together(pages, Outcome(f"{alive} streams alive", {"streams": (alive, 4)}))


@row(
    "`asyncio.run()` over a query in a page; 4 at once, then pages",
    both=("asgi", "wsgi"), stock_fails=("of the four",),
)  # fmt: skip
async def test_event_loop_in_a_page_wedges_nothing(server: Server) -> Outcome:
    four = await server.all("/f/run-loop/", 4, patience=4)
    pages = await pages_while(server)
    ready = await server.get("/health/ready", 15)
    return together(
        Outcome(f"the four: {told(four)}", {"of the four": (count(four), 4)}),
        pages,
        Outcome(f"ready: {ready.status}", {"ready": (int(ready.status == 200), 1)}),
    )


@row("pages, while 4 run `select pg_sleep(45)`")
async def test_slow_queries_hold_no_page_up(server: Server) -> Outcome:
    slow = await begun(server.all("/f/sleep-in-database/?seconds=45", 4))
    try:
        return await pages_while(server, slow)
    finally:
        slow.cancel()


@row("page that fetches a page of its own site; 4 at once")
async def test_page_can_fetch_a_page_of_its_own_site(server: Server) -> Outcome:
    return await answered(server.all("/f/page-of-own-site/", 4, patience=15))


@row("120 pages that use the cache in Redis", asgi=(), both=("asgi", "wsgi"), redis=True)
async def test_connections_to_redis_are_kept(server: Server) -> Outcome:
    async def connections() -> int:
        port = int(server.variables["REDIS_URL"].rpartition(":")[2].partition("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"INFO stats\r\n")
        await reader.readuntil(b"total_connections_received:")
        number = int(await reader.readline())
        writer.close()
        return number

    before = await connections()
    replies = [r for _ in range(30) for r in await server.all("/f/cached/", 4)]
    # The second count is itself a connection.
    fresh = await connections() - before - 1
    return Outcome(
        f"{told(replies)}, {fresh} connections",
        {"answered": (count(replies, body="true"), 120)},
        {"a connection is used for many pages": fresh <= 30},
    )


@row(
    "page under `i18n_patterns`, English (the default) and German: which chain of middleware",
    variables={
        "FIDELITY_I18N": "true",
        "FIDELITY_MIDDLEWARE": "django.middleware.locale.LocaleMiddleware "
        "fidelity_middleware.tell_chain",
    },
    both=("asgi", "wsgi"),
)  # fmt: skip
async def test_pages_of_every_language_go_the_same_way(server: Server) -> Outcome:
    pages = [
        json.loads((await server.get(path)).body)
        for path in ("/f/language/", "/en/f/language/", "/de/f/language/")
    ]
    plain, *ways = [page["chain"] for page in pages]
    same = [page["language"] for page in pages[1:]] == ["en", "de"] and {plain} == set(ways)
    text = f"{', '.join(ways)}; that of other pages is {plain}"
    return Outcome(text, {"same way": (int(same), 1)})


# What looks on


@row(
    "Sentry: 3 views and 3 pages at once, one of each raises",
    both=("asgi", "wsgi"), package="sentry-sdk", variables={"FIDELITY_TRACER": "sentry"},
)  # fmt: skip
async def test_sentry_sees_every_request_and_what_it_raised(server: Server) -> Outcome:
    await traced(server)
    events = [report for report in server.reports() if report["type"] == "event"]
    transactions = [r for r in server.reports() if r["type"] == "transaction"]
    right = sum("-fail/" in event["url"] for event in events)
    own = sum(bool(e["crumbs"]) and all(c in e["url"] for c in e["crumbs"]) for e in events)
    seen = sum("/f/traced-" in transaction["url"] for transaction in transactions)
    return Outcome(
        f"{seen} transactions, {right} exceptions with their URL, {own} with only what "
        "happened in their request",
        {"transactions": (seen, 6), "URL": (right, 2), "breadcrumbs": (own, 2)},
    )


@row(
    "Datadog's tracer: 3 views and 3 pages at once, one of each raises",
    both=("asgi", "wsgi"), package="ddtrace", first="ddtrace/bootstrap",
    variables={
        "FIDELITY_TRACER": "datadog",
        "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    },
)  # fmt: skip
async def test_datadog_sees_every_request(server: Server) -> Outcome:
    await traced(server)
    spans = [r for r in server.reports() if r["type"] == "django.request"]
    seen = sum("/f/traced-" in span["url"] for span in spans)
    return Outcome(f"{seen} spans `django.request`", {"spans": (seen, 6)})


# In a test of the project


@row("requests after a fork, with one before it", serve=False)
async def test_process_that_forked_answers(server: Server) -> Outcome:
    got = json.loads((await server.run("python", "-m", "fidelity_fork")).split("\n")[-2])
    return Outcome(
        f"{got['first']}, in the child {got['child']}",
        {"parent": (int(got["first"] == 200), 1), "child": (int(got["child"] == 200), 1)},
    )


@row("`ChannelsLiveServerTestCase`, after a first request", asgi=(), serve=False, alone=True)
async def test_live_server_of_channels_answers_after_a_first_request(server: Server) -> Outcome:
    # Away from the tests of this repository, whose conftest.py is not for projects.
    test = shutil.copy(PROBES / "fidelity_live_server.py", server.folder / "test_live.py")
    told = await server.run(
        "sh", "-c",
        "timeout 120 python -m pytest -q -p no:cacheprovider --ds fidelity_test_settings "
        f"--create-db -c pyproject.toml --rootdir . {test} || true",
    )  # fmt: skip
    (server.folder / "log").write_text(told)
    passed = int("2 passed" in told)
    return Outcome("passes" if passed else "fails", {"passes": (passed, 1)})


@row("importing the entry module: Django's receivers that stay connected", serve=False)
async def test_import_of_the_entry_module_leaves_djangos_receivers(server: Server) -> Outcome:
    got = json.loads(await server.run("python", "-m", "fidelity_receivers"))
    return Outcome(f"{got['kept']} of {got['before']}", {"kept": (got["kept"], got["before"])})
