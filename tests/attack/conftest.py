"""The sites that are attacked: one for each kind, with a mail server."""

from collections.abc import Iterator

import pytest

from tests.attack import Mailbox
from tests.combinations import SITES, name_of
from tests.conftest import Prepare
from tests.house import variables_of
from tests.site import COMMANDS, Site, running

STARTS = {
    ("wsgi", "none"): "gunicorn",
    ("asgi", "sse"): "uvicorn",
    ("both", "channels"): "no-proxy",
}
WAYS = [
    answers
    for answers in SITES
    if (answers["interface"], answers["realtime"]) in STARTS and answers["database"] == "postgresql"
]
ACCOUNT = (
    "from django.contrib.auth import get_user_model as model\n"
    "model().objects.filter(username='eve').delete()\n"
    "model().objects.create_user('eve', 'eve@example.com', 'password-of-eve')"
)


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    with mailbox.listener:
        yield mailbox


@pytest.fixture(scope="module", params=WAYS, ids=name_of)
def site(
    request: pytest.FixtureRequest,
    prepared: Prepare,
    tmp_path_factory: pytest.TempPathFactory,
    mailbox: Mailbox,
) -> Iterator[Site]:
    answers = request.param
    project, variables = prepared(answers)
    start = STARTS[answers["interface"], answers["realtime"]]
    folder = tmp_path_factory.mktemp(start)
    variables = variables_of(project, start, folder, variables)
    variables |= {"EMAIL_URL": f"smtp://127.0.0.1:{mailbox.port}"}
    project.must("python", "manage.py", "shell", "-v", "0", "-c", ACCOUNT, **variables)
    with running(project, COMMANDS[start], folder / "log", start, **variables) as site:
        yield site
