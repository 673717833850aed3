"""Pages, static files and uploads, as they come through a proxy."""

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.network import DOMAIN, SITE
from tests.proxies.front import Front
from tests.services import wait_until

pytestmark = pytest.mark.deploy

MEGABYTE = 1_000_000
MAX_BODY = 10 * 1024 * 1024


def test_pages_are_compressed(front: Front) -> None:
    plain = front.get("/", headers={"Accept-Encoding": "identity"})
    packed = front.get("/", headers={"Accept-Encoding": "gzip"})

    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert packed.text.endswith("</html>\n")


def test_static_files_come_as_the_server_sends_them(front: Front) -> None:
    login = front.get("/admin/login/").text
    path = next(iter(re.findall(r'href="(/static/[^"]+\.css)"', login)))
    names = ("Cache-Control", "Content-Encoding", "Content-Type", "ETag", "Last-Modified")

    for encoding in ("gzip", "identity"):
        accept = {"Accept-Encoding": encoding}
        sent = front.servers[0].get(path, headers=accept)
        got = front.get(path, headers=accept)
        assert got.status_code == 200
        assert {n: got.headers.get(n) for n in names} == {n: sent.headers.get(n) for n in names}
        assert got.content == sent.content
        assert "immutable" in got.headers["Cache-Control"]
        etag = got.headers["ETag"]
        known = front.get(path, headers=accept | {"If-None-Match": etag})
        assert (known.status_code, known.content) == (304, b"")
        assert known.headers["ETag"] == etag
    assert (
        front.get(path, headers={"Accept-Encoding": "gzip"}).headers["Content-Encoding"] == "gzip"
    )
    part = front.get(path, headers={"Accept-Encoding": "identity", "Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, got.content[:10])


def in_pieces(content: bytes) -> Iterator[bytes]:
    """Give a body so that its length is not known before."""
    for start in range(0, len(content), 64 * 1024):
        yield content[start : start + 64 * 1024]


def bodies(*sizes: int) -> Iterator[tuple[bytes, bytes | Iterator[bytes]]]:
    """Give contents, and each twice as a body: its length told before, and not."""
    for size in sizes:
        content = os.urandom(size)
        yield content, content
        yield content, in_pieces(content)


def test_uploads_arrive_whole_up_to_the_limit(front: Front) -> None:
    for content, body in bodies(1000, MAX_BODY):
        with front.browser() as client:
            answer = client.post("/probe/upload/", content=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()


def test_uploads_over_the_limit_are_told_so(front: Front) -> None:
    paths = ["/probe/upload/", "/async/none/"]
    for path in paths[: 1 + (front.interface == "both")]:
        for _, body in bodies(MAX_BODY + 1, MAX_BODY + 5_000_000, 10 * MAX_BODY):
            with front.browser() as client:
                refusal = client.post(path, content=body)
            assert refusal.status_code == 413
            assert "<h1>Too large</h1>" in refusal.text
            assert f"at most {MAX_BODY // 1024**2} MB" in refusal.text
            if front.proxy == "caddy":
                request_id = refusal.headers["X-Request-ID"]

                # The line is written when the answer is on its way.
                def lines(request_id: str = request_id) -> list[str]:
                    logs = "".join(server.log.read_text() for server in front.servers)
                    return [line for line in logs.splitlines() if request_id in line]

                wait_until(lines, "the refusal is logged")
                [line] = lines()
                assert '"refused": "body larger than MAX_BODY"' in line
    if front.proxy == "nginx":
        assert "too large body" in (front.folder / "nginx/logs/error.log").read_text()


def test_answer_that_comes_before_the_body_was_sent_arrives(front: Front) -> None:
    content = bytes(9 * MEGABYTE)
    for path, expected in (("/accounts/login/", 403), ("/nothing/", 404)):
        for _ in range(5):
            with front.browser() as client:
                answer = client.post(path, content=content)
            assert answer.status_code == expected
            assert "</h1>" in answer.text


def test_file_that_was_uploaded_is_fetched_and_is_no_page_of_this_site(front: Front) -> None:
    page = b"<script>alert(1)</script>"
    with front.browser() as client:
        for kind in ("html", "js", "mjs", "css", "png"):
            address = client.post(f"/probe/keep/?kind={kind}", files={"file": ("x", page)}).text
            assert re.fullmatch(rf"/media/new/page\w*\.{kind}", address)
            fetched = client.get(address)
            assert (fetched.status_code, fetched.content) == (200, page)
            assert fetched.headers["Content-Disposition"] == "attachment"
            assert fetched.headers["X-Content-Type-Options"] == "nosniff"
            # Browsers run no script and use no style that is not called one.
            assert not re.search("script|css", fetched.headers["Content-Type"])
        assert fetched.headers["Content-Type"] == "image/png"
        folder = client.get("/media/new/")

    assert folder.status_code in (403, 404)
    assert front.get("/media/none").status_code == 404
    assert front.get("/media/../db.sqlite3").status_code == 404
    assert front.get("/media/%2e%2e/db.sqlite3").status_code in (400, 404)
    assert front.get("/media../db.sqlite3").status_code == 404


def test_slow_uploads_hold_up_nobody(front: Front) -> None:
    with ExitStack() as stack:
        # Many more than there are threads.
        for _ in range(30):
            connection = socket.create_connection((SITE, 443), timeout=20)
            upload = stack.enter_context(
                front.trust.wrap_socket(connection, server_hostname=DOMAIN)
            )
            upload.sendall(
                f"POST /probe/upload/ HTTP/1.1\r\nHost: {DOMAIN}\r\n"
                "Content-Length: 100000\r\n\r\nand so on".encode()
            )
        for _ in range(4):
            assert front.get("/probe/query/").status_code == 200
