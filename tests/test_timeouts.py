"""The table in docs/deploy.md: what the files say, and how the rows fit each other."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.combinations import TEMPLATE
from tests.conftest import Bake

pytestmark = pytest.mark.bake

ROWS = re.findall(
    r"^\| ([^|]+) \| (\d+) \| (`.+) \|$", (TEMPLATE / "docs/deploy.md").read_text(), re.M
)
SECONDS = {what: int(seconds) for what, seconds, _ in ROWS}

# The same words, for something else: the autoscaler's, those of development and of `just serve`,
# of PostgreSQL's container, of nginx towards clients.
ELSEWHERE = {
    ("live.yaml", "periodSeconds"): {300},
    ("uvicorn_conf.py", "timeout_graceful_shutdown"): {1},
    ("Caddyfile", "grace_period"): {5},
    ("compose.yaml", "stop_grace_period"): {60},
}


def test_timeouts_are_those_of_the_table(bake: Bake) -> None:
    said: dict[tuple[str, str], set[int]] = defaultdict(set)
    for _, seconds, places in ROWS:
        for file, option in re.findall(r"`([\w.-]+)` ([\w-]+)", places):
            said[file, option].add(int(seconds))
    projects = [
        bake(interface="both", realtime=realtime, database="postgresql", deployment=deployment)
        for realtime, deployment in (
            ("channels", "compose"),
            ("channels", "kubernetes"),
            ("sse", "systemd"),
        )
    ]

    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for project in projects:
        for name in project.files():
            for file, option in said:
                if Path(name).name == file:
                    found[file, option] |= {
                        int(number.replace("_", "")) // (1000 if "_" in number else 1)
                        for number in re.findall(
                            rf'(?<![\w-]){option}\b[^\w\n]{{1,6}}([\d_]+)s?\b', project.read(name)
                        )
                    }  # fmt: skip
    for place, others in ELSEWHERE.items():
        assert others < found[place], place
        found[place] -= others
    assert found == said


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        ("checks of `/health/ready`", "a probe waits"),
        ("a probe waits", "between two probes"),
        ("a page waits for a thread", "a proxy waits for a page"),
        ("waiting for SQLite's lock", "a proxy waits for a page"),
        ("the loss of PostgreSQL is detected", "a proxy waits for a page"),
        ("waiting for SQLite's lock", "a worker that hangs is replaced"),
        ("a proxy keeps an idle connection", "a server keeps an idle connection"),
        ("a server finishes on SIGTERM", "a proxy waits for a server that is replaced"),
        ("heartbeat of a stream", "a proxy keeps a silent socket or stream"),
        ("ping of a socket", "a proxy keeps a silent socket or stream"),
        ("a server finishes on SIGTERM", "a server is killed after SIGTERM"),
        ("a server finishes on SIGTERM", "a stuck process is killed after SIGTERM"),
        ("between two probes", "a stuck process fails its probe before it is replaced"),
        ("a page waits for a thread", "a process without a free thread counts as stuck"),
        ("a proxy waits for a page", "a process without a free thread counts as stuck"),
        (
            "a client reads nothing of a response that holds a thread",
            "a process without a free thread counts as stuck",
        ),
        ("a query, or an idle transaction", "a process without a free thread counts as stuck"),
    ],
)
def test_timeouts_fit_each_other(shorter: str, longer: str) -> None:
    assert SECONDS[shorter] < SECONDS[longer]


def test_query_that_waits_twice_for_a_lock_ends_for_the_lock() -> None:
    """Otherwise its page is a 500: first it waits until it is the next, then for the lock."""
    assert 2 * SECONDS["a lock of another transaction"] < SECONDS["a query, or an idle transaction"]


def test_timeouts_of_kubernetes_leave_time_to_drain() -> None:
    drained = (
        SECONDS["Kubernetes tells the proxies first"] + SECONDS["a server finishes on SIGTERM"]
    )
    assert drained < SECONDS["Kubernetes kills"]


def test_limit_of_a_body_stands_in_the_settings_and_where_nginx_needs_it(bake: Bake) -> None:
    limits = r"max_body_size|body-size|max_size \d|^\w*MAX_BODY ="
    for deployment in ("compose", "kubernetes", "systemd", "none"):
        project = bake(interface="both", deployment=deployment, database="postgresql")
        holders = {name for name in project.files() if re.search(limits, project.read(name), re.M)}
        nginx = {"deploy/systemd/nginx.conf", "deploy/README.md", "tests/test_deploy.py"}
        assert holders - {"config/settings.py"} == (nginx if deployment == "systemd" else set())
