"""HTTP/2, which both proxies offer and no server behind them speaks: what a proxy makes of it.

The sibling of test_raw_requests.py. In HTTP/2 a body has an end of its own, and line ends mean
nothing; in what the proxy writes for its server they do.
"""

import json
import re
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.conftest import Bake, Prepare
from tests.network import SITE
from tests.proxies import http2
from tests.proxies.doors import HEAD, HEADERS, LINE, Door, arriving, doors, visited
from tests.proxies.front import PROXIES, Front, emitted, standing
from tests.proxies.test_files import MAX_BODY

pytestmark = pytest.mark.deploy

ANSWERS = {"interface": "both", "realtime": "channels", "database": "sqlite"}


@pytest.fixture(scope="module", params=PROXIES, ids=lambda proxy: f"both-channels-sqlite-{proxy}")
def started(
    request: pytest.FixtureRequest,
    prepared: Prepare,
    bake: Bake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Front]:
    project, variables = prepared(ANSWERS)
    proxy, folder = request.param, tmp_path_factory.mktemp(request.param)
    with standing(project, variables, proxy, emitted(bake, ANSWERS, proxy), folder) as front:
        yield front


# What every client of HTTP/2 sends is taken, or nothing here would be looked at.
LAWFUL = {"right length", "no length", "te: trailers", "http", "host and no authority"}


def ways(front: Front) -> list[Door]:
    """Return the ways in that speak HTTP/2."""
    return [door for door in doors(front) if not door.direct]


def test_no_shape_makes_two_requests_of_one(front: Front) -> None:
    jobs = [(door, name) for door in ways(front) for name in http2.SHAPES]
    words = {job: uuid.uuid4().hex for job in jobs}
    shapes = {
        (door, name): http2.SHAPES[name].fill(
            f"{door.path}{words[door, name]}/", f"{door.path}hidden-{words[door, name]}/"
        )
        for door, name in jobs
    }

    def send(job: tuple[Door, str]) -> http2.Said:
        shape = shapes[job]
        with front.network.inside():
            # A server that waits for more than comes is waited for.
            return http2.ask(job[0], shape.headers, shape.body, shape.trailers, seconds=4)

    with visited(front), ThreadPoolExecutor(24) as pool:
        found = dict(zip(jobs, pool.map(send, jobs), strict=True))
    logs = "".join(server.log.read_text() for server in front.servers)
    wrong = []
    for job, said in found.items():
        door, name = job
        known = re.findall(rf'"path": "[^"]*?((?:hidden-)?{words[job]})', logs)
        if known not in ([], [words[job]]):
            wrong.append(f"{door.name}, {name}: Django was asked for {known}; {said}")
        if not (said.status or said.cut):
            wrong.append(f"{door.name}, {name}: no answer")
        # 502 is Caddy's word for a body that is shorter than its length.
        expected = {501} | ({502} if (front.proxy, name) == ("caddy", "longer") else set())
        if said.status >= 500 and said.status not in expected:
            wrong.append(f"{door.name}, {name}: {said}")
        if said.status == 200:
            shape, answer = shapes[job], json.loads(said.body)
            if (answer["word"], answer["length"]) != (words[job], len(shape.body)):
                wrong.append(f"{door.name}, {name}: the body was read in another way; {said}")
            if answer["cookies"]:
                wrong.append(f"{door.name}, {name}: a header after the body was believed")
            if b"evil.example" in dict(shape.headers).values():
                wrong.append(f"{door.name}, {name}: the site has another name; {said}")
        elif name in LAWFUL:
            wrong.append(f"{door.name}, {name}: {said}")
    assert not wrong, "\n".join(wrong)
    for server in front.servers:
        assert not re.search(r'Traceback|"level": "(error|critical)"', server.log.read_text())
    for log in [front.folder / front.proxy / "log", *front.folder.glob("nginx/logs/*.log")]:
        # Of nginx a line of the access log has what was asked for, by Caddy it is JSON.
        lines = log.read_bytes().decode("utf-8", "backslashreplace").split("\n")
        odd = [line[:300] for line in lines if not line.replace("\t", " ").isprintable()]
        assert not odd, f"{log}: {odd[:3]}"


def test_cookies_in_many_headers_are_all_read(front: Front) -> None:
    """As browsers send them, so that each is packed once."""
    for door in ways(front):
        cookies = [(b"cookie", b"a=1,2"), (b"cookie", b"b=3"), (b"cookie", b"c=4; d=5")]
        said = http2.ask(door, http2.head(f"{door.path}x/", *cookies))
        expected = {"a": "1,2", "b": "3", "c": "4", "d": "5"}
        assert json.loads(said.body)["cookies"] == expected, door.name


def test_scheme_is_not_what_the_client_says(front: Front) -> None:
    for door in ways(front):
        for scheme in (b"https", b"http"):
            headers = http2.head(door.path.replace("echo", "facts"))
            headers[1] = (b":scheme", scheme)
            facts = json.loads(http2.ask(door, headers).body)
            assert (facts["secure"], facts["address"]) == (True, SITE), (door.name, scheme)


def test_each_limit_of_a_head_is_that_of_http_1(front: Front) -> None:
    def room(start: str) -> int:
        return LINE - len(f"{start}\r\n")

    for door in ways(front):

        def compare(
            expected: int, *headers: str, path: str = f"{door.path}limit/", door: Door = door
        ) -> None:
            older = door.say(door.request("", *headers, path=path), until_closed=True)
            newer = http2.ask(door, http2.head(path, *pairs(headers)))
            assert (older.statuses, newer.statuses) == ([expected], [expected]), (
                f"{door.name}: {older}, {newer}"
            )
            if expected == 431:
                assert b"Request Header Fields Too Large" in newer.body, f"{door.name}: {newer}"

        path = door.path + "p" * (room(f"GET {door.path}/ HTTP/1.1")) + "/"
        compare(200, path=path)
        compare(414, path=path.replace("p/", "pp/"))
        header = "x: " + "x" * room("x: ")
        compare(200, header)
        compare(431, header + "x")

        def answers(*headers: str, door: Door = door) -> list[int]:
            return http2.ask(door, http2.head(f"{door.path}limit/", *pairs(headers))).statuses

        # What a proxy adds counts, and is not the same as over HTTP/1.1.
        rows = ["x: " + "x" * 6000, "y: " + "y" * 6000, "z: z"]
        lines, size = arriving(door, partial(answers, *rows))
        many = [f"x-{number}: x" for number in range(HEADERS - lines + len(rows))]
        assert answers(*many) == [200], (door.name, lines)
        assert answers(*many, "x-a: x") == [431], (door.name, lines)
        rows[-1] += "z" * (HEAD - size)
        assert answers(*rows) == [200], (door.name, size)
        assert answers(*rows[:2], rows[-1] + "z") == [431], (door.name, size)
        compare(431, *["x: " + "x" * 8000] * 3)
        # More than any proxy reads. Both have told their clients so, and may end the connection.
        said = http2.ask(door, http2.head("/", *pairs(["x: " + "x" * 8000] * 30)))
        assert said.statuses == [431] or said.cut, f"{door.name}: {said}"


def pairs(headers: Iterable[str]) -> http2.Headers:
    """Return headers as HTTP/2 has them."""
    return [
        (name, value) for name, _, value in (line.encode().partition(b": ") for line in headers)
    ]


def test_limit_of_a_body_is_that_of_http_1(front: Front) -> None:
    body = b"x" * (MAX_BODY + 1)
    for door in ways(front):
        path = "/probe/upload/" if "gunicorn" in door.name else "/async/none/"
        for told in (True, False):
            for size in (MAX_BODY, MAX_BODY + 1):
                sent = body[:size]
                length = [(b"content-length", str(size).encode())] if told else []
                said = http2.ask(door, http2.head(path, *length, method=b"POST"), sent)
                with front.browser() as client:
                    older = client.post(path, content=sent if told else iter([sent]))
                assert said.status == older.status_code, f"{door.name} {size} {told}: {said}"
                if size > MAX_BODY:
                    assert said.status == 413, f"{door.name} {told}: {said}"
                    assert said.body == older.content, door.name
                elif "gunicorn" in door.name:
                    assert json.loads(said.body) == older.json()
