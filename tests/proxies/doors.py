"""The ways into a site: through its proxy, and past it to each server."""

import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from websockets.sync.client import ClientConnection, connect

from tests import raw
from tests.network import DOMAIN, SITE
from tests.proxies.front import Front, Server
from tests.proxies.programs import ORIGIN

SERVE_ORIGIN = f"http://{DOMAIN}"
HANDSHAKE = (
    "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
LINE, HEADERS, HEAD, FRAME = 8 * 1024, 100, 16 * 1024, 64 * 1024


@dataclass(frozen=True, eq=False)
class Door:
    """A way in: of a proxy or of a server, to pages or to what is live."""

    front: Front
    name: str
    path: str
    # The server behind it, and whether there is no proxy before that.
    number: int
    direct: bool = False

    @property
    def server(self) -> Server:
        return self.front.servers[self.number]

    @property
    def origin(self) -> str:
        return SERVE_ORIGIN if self.front.proxy == "serve" else ORIGIN

    @property
    def tls(self) -> ssl.SSLContext | None:
        return None if self.direct or self.front.proxy == "serve" else self.front.trust

    @property
    def address(self) -> tuple[str, int]:
        if self.direct:
            return self.server.host, self.server.port
        return ("127.0.0.1", 8000) if self.front.proxy == "serve" else (SITE, 443)

    @property
    def headers(self) -> list[str]:
        """Return what it takes to be taken for a client of https."""
        return ["X-Forwarded-Proto: https"] if self.direct else []

    def say(self, data: bytes | list[bytes], **options: object) -> raw.Said:
        """Send bytes in which {H} is the host."""
        return raw.say(self.address, data, tls=self.tls, name=DOMAIN, **options)  # type: ignore[arg-type]

    def request(self, word: str, *headers: str, path: str = "", host: str = DOMAIN) -> bytes:
        """Return a request that asks for an answer with `word` in it."""
        lines = [
            f"GET {path or self.path + word + '/'} HTTP/1.1", f"Host: {host}",
            *self.headers, *headers,
        ]  # fmt: skip
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")

    def handshake(self, *headers: str, path: str = "/ws/chat/lobby/", host: str = DOMAIN) -> bytes:
        """Return the handshake of a WebSocket, from a page of the site."""
        origin = f"Origin: {self.origin.replace(DOMAIN, host)}"
        data = self.request("", *headers, *HANDSHAKE, origin, path=path, host=host)
        return data.replace(b"Connection: close", b"Connection: Upgrade")

    def socket(self, cookies: str) -> ClientConnection:
        """Open a WebSocket as a browser does that has these cookies."""
        connection = socket.create_connection(self.address, timeout=20)
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_hostname=DOMAIN)
        return connect(
            f"ws://{DOMAIN}/ws/chat/lobby/",
            sock=connection,
            origin=self.origin,  # type: ignore[arg-type]
            additional_headers=dict(
                line.split(": ", 1) for line in [*self.headers, f"Cookie: {cookies}"]
            ),
            open_timeout=20,
            proxy=None,
        )


def doors(front: Front) -> list[Door]:
    """Return the ways in of a site; nginx and Caddy have the same servers behind them."""
    found = [
        Door(front, f"{front.proxy} to gunicorn", "/probe/echo/", 0),
        Door(front, f"{front.proxy} to uvicorn", "/async/echo/", 1),
    ]
    if front.proxy == "nginx":
        found += [
            Door(front, "gunicorn", "/probe/echo/", 0, direct=True),
            Door(front, "uvicorn", "/async/echo/", 1, direct=True),
        ]
    return found


def log_in(front: Front, *users: str) -> dict[str, str]:
    """Return the cookies of these users, who logged in without a proxy."""
    found = {}
    server = front.servers[0]
    for user in users:
        with httpx.Client(
            base_url=f"http://{server.host}:{server.port}",
            headers={"Host": DOMAIN, "X-Forwarded-Proto": "https", "Origin": ORIGIN},
            timeout=30,
        ) as client:
            # Its cookies are for https only.
            page = client.get("/accounts/login/")
            token = page.cookies["csrftoken"]
            answer = client.post(
                "/accounts/login/",
                data={
                    "username": user,
                    "password": f"password-of-{user}",
                    "csrfmiddlewaretoken": token,
                },
                headers={"Cookie": f"csrftoken={token}"},
            )
            assert answer.status_code == 302, answer.text
            found[user] = "; ".join(f"{name}={value}" for name, value in answer.cookies.items())
    return found


def of_length(request: bytes, padding: bytes, line: int, length: int) -> bytes:
    """Put `padding` in, so often that line number `line` has `length` bytes, its end included."""
    lines = request.split(b"\r\n")
    lines[line] = lines[line].replace(b"@", padding * (length - len(lines[line]) - 1))
    return b"\r\n".join(lines)


def size_of(request: bytes) -> tuple[int, int]:
    """Return how many headers there are in the head of a request, and how many bytes of them."""
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return len(lines), sum(len(line) + len(b"\r\n") for line in lines)


def arriving(door: Door, ask: Callable[[], list[int]]) -> tuple[int, int]:
    """Return how many headers, and bytes of them, a request has when it reaches its server.

    `ask` sends it, and returns the statuses of the answers. In the place of the server somebody
    stands who writes down what arrives.
    """

    def ask_inside() -> list[int]:
        with door.front.network.inside():
            return ask()

    server = door.server
    server.running.close()
    try:
        with socket.create_server((server.host, server.port)) as listener:
            listener.settimeout(30)
            with ThreadPoolExecutor(1) as pool:
                statuses = pool.submit(ask_inside)
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(30)
                    received = b""
                    while b"\r\n\r\n" not in received:
                        received += connection.recv(65536)
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )
                assert statuses.result() == [200]
    finally:
        server.start()
        server.wait()
    return size_of(received)


def added(door: Door, request: bytes) -> tuple[int, int]:
    """Return how many headers, and bytes of them, a proxy adds to a request."""
    if door.direct:
        return 0, 0
    before, after = size_of(request), arriving(door, lambda: door.say(request).statuses)
    return after[0] - before[0], after[1] - before[1]


@contextmanager
def visited(front: Front) -> Iterator[None]:
    """While the block runs, others ask, and get their own answers."""
    ended = threading.Event()

    def visit(path: str) -> list[str]:
        wrong = []
        with front.network.inside(), front.browser() as client:
            while not ended.is_set():
                word = uuid.uuid4().hex
                answer = client.get(f"{path}{word}/")
                if answer.status_code != 200 or answer.json()["word"] != word:
                    wrong.append(f"{path}{word}/: {answer.status_code} {answer.text[:100]}")
                ended.wait(0.05)
        return wrong

    with ThreadPoolExecutor(2) as visitors:
        visits = [visitors.submit(visit, path) for path in ("/probe/echo/", "/async/echo/")]
        try:
            yield
        finally:
            ended.set()
        wrong = [line for future in visits for line in future.result()]
        assert not wrong, "\n".join(wrong)
