"""Sockets and streams through a proxy."""

import re
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from tests.combinations import Answers, name_of
from tests.conftest import Bake, Prepare
from tests.network import DOMAIN, SITE
from tests.proxies.commands import program
from tests.proxies.front import WAYS, Front, cookies_of, emitted, standing
from tests.proxies.programs import ORIGIN
from tests.site import Site, next_frame, say

pytestmark = pytest.mark.deploy


def talk(socket: ClientConnection) -> None:
    """Say something, and hear it."""
    text = uuid.uuid4().hex
    say(socket, text)
    while next_frame(socket, "message")["text"] != text:
        pass


def test_socket_opens_for_this_sites_pages_only(front: Front) -> None:
    if not front.project.is_(realtime="channels"):
        return
    with front.browser("ada") as client:
        cookies = cookies_of(client)

    with front.socket(cookies) as socket:
        talk(socket)
    for origin in ("https://stranger.example", "null"):
        with pytest.raises(InvalidStatus) as refused:
            front.socket(cookies, origin)
        assert refused.value.response.status_code == 403


def test_events_arrive_at_once(front: Front) -> None:
    """Sooner than the next heartbeat, which would push out what somebody had held back."""
    if not front.project.is_(realtime="sse"):
        return
    with front.browser("ada") as client:
        for number, encoding in enumerate(("identity", "gzip", "gzip, deflate, br, zstd")):
            headers = {"Accept-Encoding": encoding}
            with client.stream("GET", "/events/", headers=headers, timeout=12) as stream:
                assert stream.status_code == 200
                assert stream.headers["Content-Type"] == "text/event-stream"
                assert stream.headers.get("Content-Encoding", "identity") == "identity"
                lines = stream.iter_lines()
                assert next(lines).startswith("retry:")
                Site.submit(client, "/notifications/", text=f"Event {number}")
                assert any(f"Event {number}" in line for line in lines)
        # As browsers have it.
        curl = [
            program("curl", "curl"), "--http2", "--silent", "--no-buffer", "--insecure",
            "--resolve", f"{DOMAIN}:443:{SITE}", "--max-time", "12", "--compressed",
            "--header", f"Cookie: {cookies_of(client)}", "--dump-header", "-", f"{ORIGIN}/events/",
        ]  # fmt: skip
        with subprocess.Popen(curl, stdout=subprocess.PIPE, text=True) as browser:
            assert browser.stdout
            assert browser.stdout.readline().startswith("HTTP/2 200")
            assert any(line.startswith("retry:") for line in browser.stdout)
            Site.submit(client, "/notifications/", text="Event over HTTP/2")
            assert any("Event over HTTP/2" in line for line in browser.stdout)
            browser.kill()


def test_stream_of_ones_own_arrives_piece_by_piece(front: Front) -> None:
    # nginx has to be told so by the stream, but on the live paths.
    if front.interface == "wsgi" or (front.interface, front.proxy) == ("asgi", "nginx"):
        return
    headers = {"Accept-Encoding": "gzip"}
    with (
        front.browser() as client,
        client.stream("GET", "/async/stream/", headers=headers) as stream,
    ):
        pieces = stream.iter_text()
        assert [next(pieces) for _ in range(3)] == ["2\n"] * 3


# Seconds in a copy of the files, for 60 and 3600; and between heartbeats, for 15 and 20.
LIMIT, BEAT = 3, 0.5
HURRIED = {
    "uvicorn": [
        "python", "-c",
        "from config import uvicorn_conf as c\n"
        f"c.OPTIONS['ws_ping_interval'] = {BEAT}\n"
        "c.main()",
    ]
}  # fmt: skip
LIVE = [way for way in WAYS if way[0]["interface"] == "asgi" and way[0]["realtime"] != "none"]


@pytest.mark.parametrize("way", LIVE, ids=[f"{name_of(way[0])}-{way[1]}" for way in LIVE])
def test_idle_streams_and_sockets_outlive_every_limit(
    way: tuple[Answers, str], prepared: Prepare, bake: Bake, tmp_path: Path
) -> None:
    """In a hurry: all limits of the proxy and all heartbeats are shorter here."""
    answers, proxy = way
    project, variables = prepared(answers)
    if project.is_(realtime="sse"):
        variables = variables | {"PROBE_HEARTBEAT": str(BEAT)}
    text, count = re.subn(r"(?<=[a-z] )(60|3600)s\b", f"{LIMIT}s", emitted(bake, answers, proxy))
    assert count >= 3
    with (
        standing(project, variables, proxy, text, tmp_path, HURRIED) as front,
        front.network.inside(),
        front.browser("ada") as client,
    ):
        if project.is_(realtime="channels"):
            with front.socket(cookies_of(client)) as socket:
                time.sleep(2.5 * LIMIT)
                talk(socket)
            return
        with client.stream("GET", "/events/") as stream:
            lines, ends = stream.iter_lines(), time.monotonic() + 2.5 * LIMIT
            while time.monotonic() < ends:
                assert "event" not in next(lines) or next(lines)
            Site.submit(client, "/notifications/", text="Still here")
            assert any("Still here" in line for line in lines)
