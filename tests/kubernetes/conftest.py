"""Each combination for Kubernetes, built once for all modules."""

import pytest

from tests.combinations import name_of
from tests.conftest import Bake
from tests.kubernetes.cluster import MIGRATION, PLACES, SERVERS, Cluster, build


@pytest.fixture(scope="session", params=PLACES, ids=name_of)
def cluster(request: pytest.FixtureRequest, bake: Bake) -> Cluster:
    """Each combination for Kubernetes, built."""
    project = bake(**request.param)
    return Cluster(project, build(project.path / SERVERS), build(project.path / MIGRATION))
