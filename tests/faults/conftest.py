"""The scenes of this layer, each started once."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.combinations import name_of
from tests.conftest import Bake
from tests.faults.scene import PRODUCTS, Fault, Scene
from tests.faults.table import Note, expected


@pytest.fixture(scope="package", params=PRODUCTS, ids=name_of)
def stage(
    request: pytest.FixtureRequest, install: Bake, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """A site of each kind in turn, under load. The tests run in their order."""
    project = install(**request.param)
    with Scene(project, tmp_path_factory.mktemp("faults")) as scene:
        yield scene


@pytest.fixture
def scene(stage: Scene, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """The same, as it was before the last test."""
    stage.about = expected(request.node).fault
    yield stage
    stage.restore()


@pytest.fixture
def note(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Note:
    """Return a function that checks a fault against what its test expects at most, and puts it
    into the table."""

    def note(fault: Fault) -> None:
        most = expected(request.node)
        fault.name = most.fault
        assert fault.outcomes, "nobody asked"
        assert fault.ready, "nobody asked whether it is ready"
        assert fault.lost <= most.lost, fault.outcomes
        assert fault.count("500") <= most.errors, fault.outcomes
        assert fault.lines <= most.lines, "too many lines in the log"
        record_property("fault", json.dumps(fault.row(most.project)))

    return note
