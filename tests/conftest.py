"""Projects for the tests, each combination baked and installed once in a session."""

import functools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright
from xdist.scheduler import LoadScopeScheduling

pytest.register_assert_rewrite("tests.containers", "tests.kubernetes.cluster", "tests.site")
# They are written for projects, and run in those.
collect_ignore = ["inside"]

from tests import servers, services
from tests.combinations import PAIRWISE, SITES, TEMPLATE, VALID, Answers, name_of
from tests.containers import Built, built
from tests.faults import table as faults
from tests.fidelity import table
from tests.project import PRODUCTION, Project
from tests.site import prepare, probes_of

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

SITE_NAMES = [name_of(answers) for answers in SITES]
# The key of pytest's cache, and what is to be run again; and what fails in this run.
FAILED = "again/failed"
FAILED_BEFORE = pytest.StashKey[list[str]]()
# The numbers of tests that a short run leaves out, by layer.
LAYERS = ("bake", "project", "serve", "fidelity", "faults", "browser", "compat", "deploy")
LEFT_OUT = pytest.StashKey[dict[str, int]]()
failed_now: set[str] = set()

type Bake = Callable[..., Project]
type Prepare = Callable[[Answers], tuple[Project, dict[str, str]]]


@pytest.fixture(scope="session")
def bake(cookies_session: Any) -> Bake:
    """Return a function that makes a project of some answers; the others are the defaults.

    Not its name: a file that has the default one in it must not pass.
    """

    def bake(**answers: str) -> Project:
        answers = {"project_name": "Corner Shop", **answers}
        result = cookies_session.bake(extra_context=answers, template=str(TEMPLATE))
        assert result.exception is None, result.exception
        assert result.exit_code == 0
        return Project(Path(result.project_path), dict(result.context))

    return bake


@pytest.fixture(scope="session", params=SITES, ids=name_of)
def project(request: pytest.FixtureRequest, bake: Bake) -> Project:
    """Each combination that has code of its own in turn, as baked."""
    return bake(**request.param)


@pytest.fixture(scope="session", params=VALID, ids=name_of)
def placed(request: pytest.FixtureRequest, bake: Bake) -> Project:
    """Every combination in turn, as baked: the same code in every place where it may run."""
    return bake(**request.param)


@pytest.fixture(scope="session")
def install(bake: Bake) -> Bake:
    """Return a function that bakes and installs a project, for the same answers only once."""

    @functools.cache
    def install(**answers: str) -> Project:
        project = bake(**answers)
        project.install()
        return project

    return install


@pytest.fixture(scope="session", params=SITES, ids=name_of)
def installed(request: pytest.FixtureRequest, install: Bake) -> Project:
    """Each combination in turn, installed."""
    return install(**request.param)


@pytest.fixture(scope="session")
def toolbox(install: Bake) -> Project:
    """An installed project with the dependencies of every combination."""
    return install(interface="both", realtime="channels", database="postgresql")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[services.PostgreSQL]:
    """A PostgreSQL server of these tests."""
    # Not in pytest's folder, which another run of pytest closes to the user of the server.
    with (
        tempfile.TemporaryDirectory(prefix="tests-postgresql-") as folder,
        # Several sites are up at a time, and in a crowd each may take hundreds.
        services.postgresql(Path(folder), connections=500) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis server of these tests."""
    with services.redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def prepared(
    install: Bake,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Prepare:
    """Return a function that installs and releases a combination once, on real services."""
    cache: dict[str, tuple[Project, dict[str, str]]] = {}

    def prepared(answers: Answers) -> tuple[Project, dict[str, str]]:
        name = name_of(answers)
        if name not in cache:
            project = install(**answers)
            variables = PRODUCTION | {
                "DJANGO_SETTINGS_MODULE": "probe_settings",
                "PYTHONPATH": str(probes_of(project)),
                "DJANGO_HTTPS": "false",
                "WEB_CONCURRENCY": "2",
                # What is deprecated, forgotten or ambiguous is an error in the application.
                "PYTHONWARNINGS": "error",
            }
            folder = tmp_path_factory.mktemp("database")
            variables["DATABASE_URL"] = f"sqlite:///{folder}/db.sqlite3"
            if project.is_(database="postgresql"):
                server: services.PostgreSQL = request.getfixturevalue("postgresql")
                variables["DATABASE_URL"] = server.new_database()
            if not project.is_(realtime="none"):
                variables["REDIS_URL"] = request.getfixturevalue("redis")
            prepare(project, **variables)
            cache[name] = project, variables
        return cache[name]

    return prepared


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        services.missing("Chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session", params=PAIRWISE, ids=lambda answers: f"{name_of(answers)}-image")
def built_site(request: pytest.FixtureRequest, prepared: Prepare) -> Iterator[Built]:
    """The image of each pair of answers in turn, and what it needs to run on real services.

    Their Dockerfiles and compose files are read in every combination.
    """
    project, variables = prepared(request.param)
    changed = {"DJANGO_SETTINGS_MODULE": "probe_settings", "PYTHONPATH": "/mnt"}
    # Its libraries are compiled by an interpreter that has other warnings.
    kept = {name: value for name, value in variables.items() if name != "PYTHONWARNINGS"}
    if project.is_(database="sqlite"):
        kept.pop("DATABASE_URL")
    with built(project) as image:
        yield Built(project, image, kept | changed)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run everything, as with CI set")
    parser.addoption(
        "--again",
        action="store_true",
        help="run what failed in the last run once more, with all of its combination in its file",
    )
    parser.addoption(
        "--write-tables", action="store_true", help="write the tables in docs/ anew, of results"
    )


# `uv run pytest` without options runs the bake tests, and the server tests of one project for
# each interface. These three have each choice of each question at least once.
SHORT_RUN = ("wsgi-none-sqlite", "asgi-sse-postgresql", "both-channels-postgresql")
LARGEST = SHORT_RUN[-1:]
SHORT_RUN_FILES = {
    "test_browser.py": LARGEST,
    "test_databases.py": SHORT_RUN,
    "test_dev.py": SHORT_RUN,
    "test_inside.py": LARGEST,
    "test_project.py": SHORT_RUN,
    "test_serve.py": SHORT_RUN,
}
# Other versions of cookiecutter, terminals and releases: they take minutes, and rarely change.
NOT_IN_SHORT_RUN = ("test_releases.py", "test_ways_in.py")


def is_short_run(config: pytest.Config) -> bool:
    """Return whether this is `uv run pytest` without options, and not in CI."""
    if hasattr(config, "workerinput"):
        return config.workerinput["short_run"]
    options = ("markexpr", "keyword", "all", "again", "lf", "failedfirst", "newfirst", "stepwise")
    asked = any(getattr(config.option, name, None) for name in options)
    by_itself = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return by_itself and not asked and not os.environ.get("CI")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return one more than there are CPUs for a short run, which often waits for servers. With
    --again there is one process, because a failed test may need the whole machine."""
    if config.getoption("--again"):
        return 0
    return (os.process_cpu_count() or 1) + 1 if is_short_run(config) else None


def pytest_configure_node(node: Any) -> None:
    node.workerinput["short_run"] = is_short_run(node.config)


# So many groups of tests may fail by an accident of the machine, and not more.
ACCIDENTS = 3


def group_of(nodeid: str) -> str:
    """Return what a test has in common with its neighbours: its file and combination."""
    path, _, name = nodeid.partition("::")
    return next((f"{path} {site}" for site in SITE_NAMES if f"[{site}" in name), nodeid)


def choose_failed(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests that failed, and their neighbours: they may stand on each other."""
    assert config.cache
    # Not pytest's own list, which keeps what failed until it has passed.
    failed = config.cache.get(FAILED, [])
    groups = {group_of(nodeid) for nodeid in failed}
    if not groups:
        raise pytest.UsageError("--again: no test failed in the last run.")
    if len(groups) > ACCIDENTS:
        raise pytest.UsageError(
            f"--again: tests of {len(groups)} groups failed in the last run. "
            f"Of more than {ACCIDENTS} it is no accident."
        )
    others = [item for item in items if group_of(item.nodeid) not in groups]
    items[:] = [item for item in items if group_of(item.nodeid) in groups]
    if missing := set(failed) - {item.nodeid for item in items}:
        raise pytest.UsageError(f"--again: not found: {', '.join(sorted(missing))}")
    config.hook.pytest_deselected(items=others)
    config.stash[FAILED_BEFORE] = failed


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--again"):
        choose_failed(config, items)
    if not is_short_run(config):
        return
    chosen, others = [], []
    for item in items:
        name = item.path.name
        quick = (item.get_closest_marker("bake") and name not in NOT_IN_SHORT_RUN) or (
            any(f"[{site}" in item.nodeid for site in SHORT_RUN_FILES.get(name, ()))
        )
        (chosen if quick else others).append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=others)
    layers = Counter(next(filter(item.get_closest_marker, LAYERS)) for item in others)
    config.stash[LEFT_OUT] = dict(layers)
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = config.stash[LEFT_OUT]


def pytest_testnodedown(node: Any) -> None:
    """The parallel processes collect the tests: read from each what it leaves out."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if is_short_run(config) and not config.option.collectonly:
        layers = config.stash.get(LEFT_OUT, {})
        names = [name for name in LAYERS if name in layers]
        terminalreporter.write_line(
            "Short run: the bake tests, and the server tests of "
            f"{', '.join(SHORT_RUN[:-1])} and {SHORT_RUN[-1]}. "
            f"Left out: {sum(layers.values()):,} tests of the layers {', '.join(names)}. "
            "`uv run pytest --all` runs them, in about an hour; `-m LAYER` runs one layer."
        )
    if failed := config.stash.get(FAILED_BEFORE, []):
        terminalreporter.write_line(
            "These tests failed in the last run. If they passed now, they fail only sometimes: "
            "find out whether the test or the code is wrong.\n" + "\n".join(failed)
        )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        failed_now.add(report.nodeid)
    table.note(report)
    faults.note(report)
    servers.note(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    # Parallel processes report to the first, which has no number.
    if hasattr(session.config, "workerinput"):
        return
    if session.config.cache and not session.config.option.collectonly:
        session.config.cache.set(FAILED, sorted(failed_now))
    if session.config.getoption("--write-tables"):
        table.write()
        faults.write()
        servers.write()


def pytest_configure(config: pytest.Config) -> None:
    # Baking must not depend on what its developer has configured.
    os.environ.pop("COOKIECUTTER_CONFIG", None)


class ByCombination(LoadScopeScheduling):
    """Runs the tests of one combination in one process, where they share its project."""

    def _split_scope(self, nodeid: str) -> str:
        return next((name for name in SITE_NAMES if f"[{name}" in nodeid), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCombination:
    return ByCombination(config, log)
