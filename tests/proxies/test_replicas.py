"""Servers that come and go behind Caddy."""

import http.server
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Bake
from tests.network import own_network
from tests.proxies.commands import process
from tests.proxies.front import WAYS, Front, emitted
from tests.proxies.programs import ORIGIN, caddy_command, proxy_environment, proxy_running, status
from tests.services import wait_until

pytestmark = pytest.mark.deploy


def test_replicas_are_replaced_one_by_one_and_no_request_fails(front: Front) -> None:
    # What is live adds nothing to pages but time.
    if front.proxy != "caddy" or not front.project.is_(realtime="none"):
        return
    ended = threading.Event()

    def visit(_: int) -> list[int]:
        found = []
        with front.browser() as client:
            while not ended.is_set():
                found.append(client.get("/probe/query/").status_code)
        return found

    with ThreadPoolExecutor(4) as pool:
        visits = [pool.submit(visit, number) for number in range(4)]
        try:
            for server in front.servers[:2]:
                server.running.close()
                server.start()
                server.wait()
        finally:
            ended.set()
        found = [code for future in visits for code in future.result()]
    assert len(found) > 20
    assert set(found) == {200}


class Fragile(http.server.BaseHTTPRequestHandler):
    """A server that reads a request, and may be gone before it answers."""

    received: list[tuple[str, str]]
    failures: int

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.received.append((self.command, self.path))
        if type(self).failures:
            type(self).failures -= 1
            return
        self.send_response(200)
        body = self.headers["X-Forwarded-Proto"].encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def fragile_server() -> Iterator[type[Fragile]]:
    Fragile.received, Fragile.failures = [], 0
    with http.server.ThreadingHTTPServer(("127.0.1.1", 8000), Fragile) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Fragile
        finally:
            server.shutdown()
            thread.join()


def test_requests_wait_for_a_server_and_no_post_is_sent_twice(bake: Bake, tmp_path: Path) -> None:
    text = emitted(bake, WAYS[0][0], "caddy")
    with own_network() as own, own.inside(), ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        fragile = server.enter_context(fragile_server())
        names = {"web": ["127.0.1.1"]}
        trust = stack.enter_context(proxy_running("caddy", text, tmp_path / "caddy", names))
        client = stack.enter_context(httpx.Client(verify=trust, base_url=ORIGIN, timeout=30))

        fragile.received.clear()
        fragile.failures = 1
        assert client.post("/post/", content=b"once").status_code == 502
        assert fragile.received == [("POST", "/post/")]
        fragile.failures = 1
        assert client.get("/get/").status_code == 200
        assert fragile.received[1:] == [("GET", "/get/")] * 2

        # Nobody is there: whatever it is waits, as it has reached no one.
        server.close()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.post, "/wait/", content=b"once")
            time.sleep(1)
            assert not waiting.done()
            with fragile_server() as fragile:
                assert waiting.result(timeout=30).status_code == 200
                assert fragile.received == [("POST", "/wait/")]


def test_caddy_serves_localhost_without_https_if_told_so(bake: Bake, tmp_path: Path) -> None:
    text = emitted(bake, WAYS[0][0], "caddy")
    command, _ = caddy_command(text, tmp_path, {"web": ["127.0.1.1"]})
    plain = proxy_environment(tmp_path) | {
        "SITE_ADDRESS": "http://localhost",
        "CADDY_GLOBAL_OPTIONS": "",
    }
    with (
        own_network() as own,
        own.inside(),
        fragile_server(),
        process(command, tmp_path / "log", env=plain),
    ):
        wait_until(lambda: status("http://localhost/") == 200, "Caddy answers")
        assert httpx.get("http://localhost/").text == "http"
