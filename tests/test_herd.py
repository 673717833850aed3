"""All browsers come back at once, as after a restart: how long they wait beside those of a site
that does nothing but let them in."""

import statistics
import time
from collections.abc import Iterator

import pytest

from tests.combinations import SITES, name_of
from tests.conftest import Prepare
from tests.herd import seconds_until_live, sessions
from tests.house import House
from tests.site import COMMANDS, probes_of, running

pytestmark = pytest.mark.serve

COMBINATIONS = [
    answers
    for answers in SITES
    if answers["interface"] == "asgi"
    and answers["realtime"] != "none"
    and answers["database"] == "postgresql"
]
COUNT = 1000
# Times as long as at the plain one's, whose users are read one by one, as they are everywhere:
# less than once on a machine with nothing else to do.
MOST = 1.5

# What is compared with. It knows who is there, joins a group, says hello, and that is all.
PLAIN_SOCKET = """
import config.asgi
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer

class Plain(AsyncWebsocketConsumer):
    async def connect(self):
        assert self.scope["user"].is_authenticated
        await self.channel_layer.group_add("plain", self.channel_name)
        await self.accept()
        await self.send("hello")

plain = AuthMiddlewareStack(Plain.as_asgi())

async def application(scope, receive, send):
    here = scope["type"] == "websocket" and scope["path"] == "/ws/plain/"
    await (plain if here else config.asgi.application)(scope, receive, send)
"""
MAIN = """
from config import uvicorn_conf

uvicorn_conf.OPTIONS["app"] = "probe_plain:application"

if __name__ == "__main__":
    uvicorn_conf.main()
"""


@pytest.fixture(
    scope="module", params=COMBINATIONS, ids=[f"{name_of(one)}-herd" for one in COMBINATIONS]
)
def house(
    request: pytest.FixtureRequest, prepared: Prepare, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    project, variables = prepared(request.param)
    house = House(project, "uvicorn", tmp_path_factory.mktemp("house"), variables)
    command = COMMANDS["uvicorn"]
    if project.is_(realtime="channels"):
        (probes_of(project) / "probe_plain.py").write_text(PLAIN_SOCKET)
        (probes_of(project) / "probe_crowd.py").write_text(MAIN)
        command = ["python", "-m", "probe_crowd"]
    house.start_redis()
    with (
        house.redis,
        running(project, command, house.folder / "log", port=house.port, **house.variables) as site,
    ):
        house.site = site
        yield house


def test_crowd_waits_hardly_longer_than_at_a_site_that_only_lets_it_in(house: House) -> None:
    """Until the first word of the emitted site; all come at once, each with its own session."""
    websocket = house.project.is_(realtime="channels")
    plain, own = ("/async/plain/", b"hello"), ("/events/", b"retry:")
    if websocket:
        plain, own = ("/ws/plain/", b"hello"), ("/ws/chat/crowd/?after=0", b'"people"')
    keys = sessions(house, COUNT)
    ratios = []
    # The first round is to warm up.
    for number in range(4):
        seconds = []
        for path, words in (plain, own):
            some = keys if number else keys[:20]
            seconds.append(seconds_until_live(house.port, path, some, words, websocket))
            # They leave, which is work as well.
            time.sleep(2)
        ratios.append(seconds[1] / seconds[0])

    assert statistics.median(ratios[1:]) < MOST, ratios
    house.site.assert_clean_log()
