"""`docs/choosing.md` and the questions: their figures are those that were measured here."""

import json
import re
import statistics

import pytest

from benchmarks.report import number
from tests.combinations import QUESTIONS, TEMPLATE

pytestmark = pytest.mark.bake

FILE = TEMPLATE / "docs" / "choosing.md"
BEGIN = "<!-- begin: written by `uv run pytest -n0 -k choosing --write-tables` -->\n"
END = "<!-- end -->"
RESULTS = json.loads((TEMPLATE / "benchmarks/results/newest.json").read_text())["results"]
WSGI, ASGI, SOCKETS = ["emitted wsgi"], ["emitted asgi"], ["emitted both, sockets"]
PAGES, LIVE = ["emitted both, gunicorn"], ["emitted both, uvicorn"]

# What is in a row, its measure and metric, and whose numbers are added: with WSGI, ASGI and both.
type Cell = list[str] | str
ROWS: list[tuple[str, str, str, tuple[Cell, Cell, Cell]]] = [
    ("memory, in MiB", "memory", "MiB", (WSGI, ASGI, [*PAGES, *LIVE])),
    ("pages a second, three queries on PostgreSQL", "page-postgresql", "requests/s",
     (WSGI, ASGI, PAGES)),
    ("pages a second, three queries on SQLite", "page-sqlite", "requests/s",
     (WSGI, ASGI, "as WSGI")),
    ("answers a second, a view that does nothing", "trivial", "requests/s", (WSGI, ASGI, PAGES)),
    ("answers a second, a view that blocks for 50 ms, 64 at once", "blocking", "requests/s",
     (WSGI, ASGI, "as WSGI")),
    ("answers a second, an async view that waits for 50 ms, 500 at once", "waiting", "requests/s",
     ("at most 800", ASGI, "as ASGI")),
    ("memory of an open WebSocket of the chat, in KiB", "sockets", "KiB/socket in the chat",
     ("no", "as both", SOCKETS)),
    ("a chat message is with all of 1,000 browsers, in ms", "sockets", "chat broadcast ms",
     ("no", "as both", SOCKETS)),
]  # fmt: skip


def measured(measure: str, metric: str, subjects: list[str]) -> float:
    """Return the sum of the medians of some subjects."""
    return sum(statistics.median(RESULTS[measure][name][metric]) for name in subjects)


def table() -> str:
    lines = ["| | WSGI | ASGI | both |", "| --- | ---: | ---: | ---: |"]
    for label, measure, metric, cells in ROWS:
        written = (c if isinstance(c, str) else number(measured(measure, metric, c)) for c in cells)
        lines.append(f"| {label} | {' | '.join(written)} |")
    return "\n".join(lines) + "\n"


def test_figures_for_choosing_are_the_newest_results(request: pytest.FixtureRequest) -> None:
    before, begin, rest = FILE.read_text(encoding="utf-8").partition(BEGIN)
    written, end, after = rest.partition(END)
    assert begin
    assert end
    if request.config.getoption("--write-tables"):
        FILE.write_text(before + begin + table() + end + after, encoding="utf-8")
    else:
        assert written == table()


def test_figures_with_a_link_stand_where_it_leads() -> None:
    linked = re.findall(r"\[([\d.]+ [^]]*)\]\(([\w.]+)", FILE.read_text(encoding="utf-8"))

    assert len(linked) > 1
    for words, document in linked:
        figure = words.split(" of the")[0]
        assert figure in (FILE.parent / document).read_text(encoding="utf-8"), words


def test_what_is_said_of_the_figures_is_true() -> None:
    """Pages are as fast, `both` takes about twice the memory of ASGI, and threads are so many."""
    for measure in ("trivial", "page-sqlite", "page-postgresql"):
        wsgi, asgi = (RESULTS[measure][name]["requests/s"] for name in (*WSGI, *ASGI))
        assert min(wsgi) <= max(asgi), measure
        assert min(asgi) <= max(wsgi), measure
    asgi, both = (measured("memory", "MiB", names) for names in (ASGI, [*PAGES, *LIVE]))
    assert 1.7 < both / asgi < 2.3
    (gunicorn,) = TEMPLATE.glob("*project_slug*/config/*gunicorn.conf.py*")
    most = re.search(r"^MAX_THREADS = .*min\((\d+), 80 // workers\)", gunicorn.read_text(), re.M)
    assert most
    threads = 2 * int(most[1])
    text = " ".join(FILE.read_text(encoding="utf-8").split())
    for words in (
        f"has at most {most[1]} in a process",
        f"at most {threads * 20} answers a second that wait for 50 ms, and at most {threads} that",
        f"with two processes of {most[1]} threads, the {threads + 1}st visitor",
    ):
        assert words in text


def test_memory_that_the_question_and_the_picture_name_was_measured() -> None:
    """To a tenth: they need not change with each run."""
    lines = QUESTIONS["__prompts__"]["interface"]
    picture = (TEMPLATE / "docs/choosing.svg").read_text(encoding="utf-8")
    for name, subjects in (("wsgi", WSGI), ("asgi", ASGI), ("both", [*PAGES, *LIVE])):
        named = re.findall(r"(\d+) MiB", lines[name])
        assert len(named) == 1, name
        assert int(named[0]) == pytest.approx(measured("memory", "MiB", subjects), rel=0.1)
        assert f">{named[0]} MiB" in picture


def test_question_about_the_interface_says_where_to_read_more() -> None:
    assert "docs/choosing.md" in QUESTIONS["__prompts__"]["interface"]["__prompt__"]
    assert FILE.exists()


def test_socket_that_the_question_names_was_measured() -> None:
    named = re.findall(r"(\d+) KiB", QUESTIONS["__prompts__"]["realtime"]["channels"])

    assert len(named) == 1
    kib = measured("sockets", "KiB/socket in the chat", SOCKETS)
    assert int(named[0]) == pytest.approx(kib, rel=0.1)


def test_figures_for_switching_are_the_newest_results() -> None:
    text = (TEMPLATE / "docs" / "switching.md").read_text(encoding="utf-8")
    wsgi, asgi, both = (
        number(measured("memory", "MiB", names)) for names in (WSGI, ASGI, [*PAGES, *LIVE])
    )
    kib = measured("sockets", "KiB/socket in the chat", SOCKETS)

    assert (
        f"| memory of two processes | {wsgi} MiB | {asgi} MiB, and {kib:.0f} KiB for each" in text
    )
    assert f"two groups of processes: {both} MiB with Channels and PostgreSQL" in text
    assert re.findall(r"(\d+) [KM]iB", text) == [wsgi, asgi, f"{kib:.0f}", both]


def test_pages_a_second_that_the_questions_name_were_measured() -> None:
    """To a quarter: the machine is shared, and they need not change with each run."""
    lines = QUESTIONS["__prompts__"]["database"]
    for name in ("sqlite", "postgresql"):
        (named,) = re.findall(r"(\d+) pages a second", lines[name])
        pages = measured(f"page-{name}", "requests/s", WSGI)
        assert int(named) == pytest.approx(pages, rel=0.25)
