"""What somebody tries who means harm, against the production commands on real services.

What needs no server is in tests/inside/ (test_log_in.py, test_pages.py, serving/test_origins.py),
what needs a proxy in tests/proxies/.
"""

import socket
from contextlib import suppress

from tests.site import Site

# What may stand in the log of a site that is attacked.
EXPECTED = r"Forbidden \((CSRF|Origin)|Invalid (HTTP )?request|Failed to send password"
EXPECTED += r"|[Pp]ath traversal"


class Mailbox:
    """A mail server that takes connections, and says nothing."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(30)
        self.port = self.listener.getsockname()[1]


def exchange(site: Site, request: bytes, seconds: float = 20) -> bytes:
    """Send bytes and return what comes back until the connection is closed, or is silent."""
    with socket.create_connection((site.host, site.port), timeout=seconds) as connection:
        connection.sendall(request)
        received = b""
        with suppress(TimeoutError, ConnectionError):
            while piece := connection.recv(65536):
                received += piece
        return received


def raw_get(site: Site, path: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    return exchange(site, "\r\n".join([*lines, "", ""]).encode("latin-1"))
