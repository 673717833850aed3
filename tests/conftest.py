"""Projects for the tests, each combination baked and installed once in a session."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest.register_assert_rewrite("tests.site")

from tests import services
from tests.combinations import TEMPLATE, VALID, name_of
from tests.project import Project

type Bake = Callable[..., Project]


@pytest.fixture(scope="session")
def bake(cookies_session: Any) -> Bake:
    """Return a function that makes a project of some answers; the others are the defaults."""

    def bake(**answers: str) -> Project:
        result = cookies_session.bake(extra_context=answers, template=str(TEMPLATE))
        assert result.exception is None, result.exception
        assert result.exit_code == 0
        return Project(Path(result.project_path), dict(result.context))

    return bake


@pytest.fixture(scope="session", params=VALID, ids=name_of)
def project(request: pytest.FixtureRequest, bake: Bake) -> Project:
    """Each combination in turn, as baked."""
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


@pytest.fixture(scope="session", params=VALID, ids=name_of)
def installed(request: pytest.FixtureRequest, install: Bake) -> Project:
    """Each combination in turn, installed."""
    return install(**request.param)


@pytest.fixture(scope="session")
def toolbox(install: Bake) -> Project:
    """An installed project with the dependencies of every combination."""
    return install(interface="both", realtime="channels", database="postgresql")


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.PostgreSQL]:
    """A PostgreSQL server of these tests."""
    with services.postgresql(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis server of these tests."""
    with services.redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


def pytest_configure(config: pytest.Config) -> None:
    # Baking must not depend on what its developer has configured.
    os.environ.pop("COOKIECUTTER_CONFIG", None)


class ByCombination(LoadScopeScheduling):
    """Runs the tests of one combination in one process, where they share its project."""

    def _split_scope(self, nodeid: str) -> str:
        names = [name_of(answers) for answers in VALID]
        return next((name for name in names if f"[{name}" in nodeid), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCombination:
    return ByCombination(config, log)
