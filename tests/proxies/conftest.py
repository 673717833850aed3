"""Each combination behind each proxy, started once for all modules."""

from collections.abc import Iterator

import pytest

from tests.combinations import name_of
from tests.conftest import Bake, Prepare
from tests.proxies.front import WAYS, Front, emitted, standing


@pytest.fixture(scope="package", params=WAYS, ids=lambda way: f"{name_of(way[0])}-{way[1]}")
def started(
    request: pytest.FixtureRequest,
    prepared: Prepare,
    bake: Bake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Front]:
    """Each combination in turn, behind each proxy, with the defaults of production."""
    answers, proxy = request.param
    project, variables = prepared(answers)
    text, folder = emitted(bake, answers, proxy), tmp_path_factory.mktemp(proxy)
    with standing(project, variables, proxy, text, folder) as front:
        yield front


@pytest.fixture
def front(started: Front) -> Iterator[Front]:
    """The same, with the test in its network."""
    with started.network.inside():
        yield started
