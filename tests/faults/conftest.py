"""The scenes of this layer, each started once."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.combinations import name_of
from tests.conftest import Bake
from tests.faults.scene import PRODUCTS, Fault, Scene
from tests.faults.table import Note


@pytest.fixture(scope="package", params=PRODUCTS, ids=name_of)
def stage(
    request: pytest.FixtureRequest, install: Bake, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """A site of each kind in turn, under load. The tests run in their order."""
    project = install(**request.param)
    with Scene(project, tmp_path_factory.mktemp("faults")) as scene:
        yield scene


@pytest.fixture
def scene(stage: Scene) -> Iterator[Scene]:
    """The same, as it was before the last test."""
    yield stage
    stage.restore()


@pytest.fixture
def note(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Note:
    """Return a function that puts a fault into the table."""

    def note(fault: Fault, project: str = "") -> None:
        name = project or request.getfixturevalue("stage").name
        record_property("fault", json.dumps(fault.row(name)))

    return note
