"""Many browsers that come back at once, each with a session of its own."""

import asyncio
import base64
import os
import statistics
import time

from tests.house import House

# The people and their sessions; the key of each is printed.
SESSIONS = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
users = [get_user_model()(username=f"herd-{{n}}", password="!") for n in range({count})]
get_user_model().objects.bulk_create(users)
for user in users:
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    print(session.session_key)
"""


def sessions(house: House, count: int) -> list[str]:
    """Return the keys of so many sessions, each of another person."""
    keys = house.shell(SESSIONS.format(count=count)).split()
    assert len(keys) == count
    return keys


class Browser(asyncio.Protocol):
    """Sends a request, and waits for some words after the head of the answer."""

    transport: asyncio.Transport

    def __init__(self, request: bytes, words: bytes) -> None:
        self.request = request
        self.words = words
        self.data = b""
        self.live: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.live.done():
            self.data += data
            if self.words in self.data.partition(b"\r\n\r\n")[2]:
                self.live.set_result(time.perf_counter())

    def connection_lost(self, error: Exception | None) -> None:
        if not self.live.done():
            self.live.set_exception(ConnectionError(self.data[:200].decode()))


def seconds_until_live(
    port: int, path: str, keys: list[str], words: bytes, websocket: bool
) -> float:
    """Let a browser of each session come to `path`, all at once.

    Return the median of the seconds until they have read `words`.
    """

    async def come(key: str, started: float) -> tuple[Browser, float]:
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: localhost:{port}",
            f"Origin: http://localhost:{port}",
            f"Cookie: sessionid={key}",
        ]
        if websocket:
            lines += [
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Version: 13",
                f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            ]
        request = "\r\n".join([*lines, "", ""]).encode()
        _, browser = await asyncio.get_running_loop().create_connection(
            lambda: Browser(request, words), "127.0.0.1", port
        )
        return browser, await browser.live - started

    async def all_come() -> float:
        started = time.perf_counter()
        async with asyncio.timeout(120):
            found = await asyncio.gather(*(come(key, started) for key in keys))
        for browser, _ in found:
            browser.transport.abort()
        return statistics.median(seconds for _, seconds in found)

    return asyncio.run(all_come())
