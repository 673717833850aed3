"""Two sites on one Redis, as production and staging may be: neither hears the other."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from queue import Empty

import pytest

from tests import services
from tests.combinations import SITES, name_of
from tests.conftest import Prepare
from tests.house import House
from tests.services import PostgreSQL, wait_until
from tests.site import next_frame, prepare, say
from tests.streams.house import PAUSE_WITH_REDIS, StreamHouse

pytestmark = pytest.mark.serve

KINDS: dict[str, type[House]] = {"channels": House, "sse": StreamHouse}
COMBINATIONS = {
    realtime: [
        answers
        for answers in SITES
        if answers["realtime"] == realtime and answers["interface"] == "asgi"
    ]
    for realtime in KINDS
}


@pytest.fixture(scope="module")
def pair(
    request: pytest.FixtureRequest, prepared: Prepare, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[House]]:
    """Two sites of one project: each has a database and, on the same Redis, a number of its own."""
    project, variables = prepared(request.param)
    house = KINDS[request.param["realtime"]]
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("redis")
        url = stack.enter_context(services.redis(folder)).removesuffix("/0")
        sites = []
        for number in (0, 1):
            folder = tmp_path_factory.mktemp("site")
            database = f"sqlite:///{folder}/db.sqlite3"
            if project.is_(database="postgresql"):
                server: PostgreSQL = request.getfixturevalue("postgresql")
                database = server.new_database()
            own = variables | {"DATABASE_URL": database}
            prepare(project, **own)
            site = house(project, "uvicorn", folder, own)
            site.redis_port = int(url.rpartition(":")[2])
            site.variables["REDIS_URL"] = f"{url}/{number}"
            stack.enter_context(site.server)
            site.start_site()
            sites.append(site)
        if isinstance(house, StreamHouse):
            for site in sites:
                stack.enter_context(site.streams)
        yield sites


def of(realtime: str) -> pytest.MarkDecorator:
    """Run a test with the two sites of each combination that has one kind of live features."""
    combinations = COMBINATIONS[realtime]
    return pytest.mark.parametrize(
        "pair", combinations, ids=[f"{name_of(one)}-two" for one in combinations], indirect=True
    )


def redis_cli(house: House, *command: str) -> str:
    return subprocess.run(
        ["redis-cli", "-p", str(house.redis_port), *command],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def channels(house: House, pattern: str) -> list[str]:
    """Return the names in Redis to which somebody is subscribed."""
    return redis_cli(house, "pubsub", "channels", pattern).split()


@of("channels")
def test_sites_do_not_hear_each_others_chat(pair: list[House]) -> None:
    """Both listen in a room of the same name. What is said in the second one has lower ids."""
    first, second = (house.site for house in pair)
    with (
        first.socket(user="ada") as ada, first.socket(user="bob") as bob,
        second.socket(user="ada") as other_ada, second.socket(user="bob") as other_bob,
    ):  # fmt: skip
        wait_until(lambda: len(channels(pair[0], "*.live")) == 2, "each has its own name")
        for text in ("one", "two", "three"):
            say(ada, text)
        heard = [next_frame(bob, "message") for _ in range(3)]
        say(other_ada, "mine")
        mine = next_frame(other_bob, "message")

    assert [frame["text"] for frame in heard] == ["one", "two", "three"]
    assert mine["text"] == "mine"
    assert mine["id"] < heard[-1]["id"]


@of("channels")
def test_forged_events_are_neither_shown_nor_do_they_hide_anything(pair: list[House]) -> None:
    """They come under the site's own name, through Redis, as if from one of its processes."""
    house, _ = pair
    room = "forged"
    with house.site.socket(path=f"/ws/chat/{room}/") as socket:
        next_frame(socket, "people")
        wait_until(lambda: channels(house, "*.live"), "it listens")
        for name in channels(house, "*.live"):
            for data in ("neither this nor that", json.dumps(["news", room, 10**9])):
                redis_cli(house, "publish", name, data)
        publish = (
            f"from {house.project.slug}.users.models import User\n"
            f"from {house.project.slug}.chat.posting import publish\n"
            "import time\n"
            "ada = User.objects.get(username='ada')\n"
        )
        house.shell(publish + f"for text in ('one', 'two'): publish({room!r}, ada, text)")

        assert [next_frame(socket, "message")["text"] for _ in range(2)] == ["one", "two"]
    assert house.site.log.count("hint not understood") == 1


@of("sse")
def test_sites_do_not_hear_each_others_notifications(pair: list[StreamHouse]) -> None:
    streams = []
    for house in pair:
        stream = house.open()
        assert stream.next("")
        streams.append(stream)
    wait_until(lambda: len(channels(pair[0], "*.live")) == 2, "each has its own name")

    pair[0].send("one", "two", "three")
    assert streams[0].texts(3, seconds=PAUSE_WITH_REDIS / 3) == ["one", "two", "three"]
    pair[1].send("mine")
    assert streams[1].texts(seconds=PAUSE_WITH_REDIS / 3) == ["mine"]
    with pytest.raises(Empty):
        streams[0].next("notification", seconds=0.5)


@of("sse")
def test_what_is_no_hint_does_not_end_the_hearing(pair: list[StreamHouse]) -> None:
    house, _ = pair
    stream = house.open()
    assert stream.next("")
    wait_until(lambda: channels(house, "*.live"), "it listens")

    for name in channels(house, "*.live"):
        for data in ("neither this nor that", "[1]", '["news", "1", 1000000000]'):
            redis_cli(house, "publish", name, data)
    house.send("one")

    assert stream.texts(seconds=PAUSE_WITH_REDIS / 3) == ["one"]
    assert "no hints from Redis" not in house.site.log
    assert "Redis is away" not in house.site.log
