"""Packages that people add in their first weeks, in one project for each interface.

All are in the project at once, each as its own documentation says. It is started with its
production command, with DEBUG off and on, and spoken to over HTTP.

docs/compat.md is made of what passes here: `uv run pytest -n0 -m compat --write-tables`.
"""

import functools
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import compat, services
from tests.combinations import name_of
from tests.compat.shop import PROJECTS, Shop, passed, rows, tried, versions
from tests.conftest import Bake
from tests.house import path_with_only
from tests.project import PRODUCTION, Project
from tests.services import ended
from tests.site import COMMANDS, running

COMMAND = {
    "wsgi": COMMANDS["gunicorn"],
    "asgi": COMMANDS["uvicorn"],
    "both": ["python", "-m", "config.serve"],  # `just serve`, prepared once for two starts
}


# Before pytest brings the tests of each shop together, which keeps their order.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the log of each shop be read when all others have written into it."""
    items.sort(key=lambda item: item.name.startswith("test_nothing_went_wrong_unseen["))


@pytest.fixture(scope="session", autouse=True)
def table(request: pytest.FixtureRequest) -> Iterator[None]:
    """Write docs/compat.md, if asked to, of what has passed."""
    yield
    if request.config.getoption("--write-tables"):
        assert not hasattr(request.config, "workerinput"), "--write-tables needs -n0"
        compat.write_table(*rows(), versions, tried, passed)


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
    scope="package",
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
