"""Bytes to a server and back, with no client that mends or refuses them on the way."""

import re
import socket
import ssl
import time
from dataclasses import dataclass, field

HEAD_END = b"\r\n\r\n"


@dataclass
class Said:
    """What came back on a connection: whole answers, and whether the server closed it."""

    answers: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    closed: bool = False
    rest: bytes = b""

    @property
    def statuses(self) -> list[int]:
        return [status for status, _, _ in self.answers]

    def __str__(self) -> str:
        return f"{self.statuses}{' closed' if self.closed else ''} {self.rest[:200]!r}"


def split(data: bytes) -> tuple[list[tuple[int, bytes, bytes]], bytes]:
    """Return the answers in `data`, as status, head and body, and what is left over."""
    answers = []
    while (end := data.find(HEAD_END)) >= 0:
        head, body = data[:end], data[end + 4 :]
        start = re.match(rb"HTTP/1\.\d (\d{3})", head)
        if not start:
            break
        if length := re.search(rb"(?i)^content-length: *(\d+)", head, re.M):
            if len(body) < int(length[1]):
                break
            body, data = body[: int(length[1])], body[int(length[1]) :]
        elif re.search(rb"(?i)^transfer-encoding: *chunked", head, re.M):
            if (last := body.find(b"0\r\n\r\n")) < 0:
                break
            body, data = body[:last], body[last + 5 :]
        else:
            body, data = b"", body
        answers.append((int(start[1]), head, body))
    return answers, data


def say(
    address: tuple[str, int],
    data: bytes | list[bytes],
    wanted: int = 1,
    tls: ssl.SSLContext | None = None,
    name: str = "localhost",
    seconds: float = 30,
    until_closed: bool = False,
) -> Said:
    """Send bytes, and listen until there are `wanted` answers, the end, or for `seconds`.

    Several pieces are sent one after the other. With `until_closed` answers do not suffice.
    """
    said, received, ends = Said(), b"", time.monotonic() + seconds
    with socket.create_connection(address, timeout=20) as connection:
        if tls:
            connection = tls.wrap_socket(connection, server_hostname=name)
        try:
            for piece in [data] if isinstance(data, bytes) else data:
                connection.sendall(piece)
            while time.monotonic() < ends:
                connection.settimeout(max(0.01, ends - time.monotonic()))
                piece = connection.recv(65536)
                received += piece
                said.closed = not piece
                said.answers, said.rest = split(received)
                if not piece or (len(said.answers) >= wanted and not until_closed):
                    break
        except TimeoutError:
            pass
        except OSError:
            said.closed = True
        finally:
            connection.close()
    return said
