"""Static files as the servers send them: ranges and conditions of HTTP (RFC 9110)."""

{% if cookiecutter.__asgi %}
import asyncio
{% endif %}
import gzip
from pathlib import Path
from typing import Any

import pytest
{% if cookiecutter.__asgi %}
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
{% endif %}

{% if cookiecutter.__both %}
from serving.static_files import CHUNK_SIZE, ASGIStaticFiles, WSGIStaticFiles
{% elif cookiecutter.__asgi %}
from serving.static_files import CHUNK_SIZE, ASGIStaticFiles
{% else %}
from serving.static_files import CHUNK_SIZE, WSGIStaticFiles
{% endif %}

SMALL = b"0123456789"
PACKED = SMALL * 100
LARGE = bytes(range(256)) * (3 * CHUNK_SIZE // 256)

type Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.css").write_bytes(SMALL)
    (tmp_path / "packed.css").write_bytes(PACKED)
    (tmp_path / "packed.css.gz").write_bytes(gzip.compress(PACKED))
    (tmp_path / "large.css").write_bytes(LARGE)
    (tmp_path / "grün.css").write_bytes(SMALL)
    return tmp_path
{% if cookiecutter.__wsgi %}


def get_over_wsgi(folder: Path, name: str, method: str, headers: dict[str, str]) -> Answer:
    """Ask as a WSGI server does."""
    started: list[Any] = []
    site = WSGIStaticFiles(None, root=folder, prefix="/static/")
    environ = {f"HTTP_{key.upper().replace('-', '_')}": headers[key] for key in headers}
    body = site(
        {
            **environ,
            "PATH_INFO": f"/static/{name}".encode().decode("latin-1"),
            "REQUEST_METHOD": method,
        },
        lambda status, found: started.extend([status, dict(found)]),
    )
    return int(started[0][:3]), started[1], b"".join(body)
{% endif %}
{% if cookiecutter.__asgi %}


@async_to_sync
async def get_over_asgi(
    folder: Path, name: str, method: str, headers: dict[str, str]
) -> Answer:
    """Ask as an ASGI server does."""
    site = ASGIStaticFiles(None, root=folder, prefix="/static/")
    sent = [(key.encode(), value.encode()) for key, value in headers.items()]
    scope = {"type": "http", "method": method, "path": f"/static/{name}", "headers": sent}
    client = ApplicationCommunicator(site, scope)
    await client.send_input({"type": "http.request"})
    start = await client.receive_output()
    assert start["type"] == "http.response.start"
    body, more = b"", True
    while more:
        event = await client.receive_output()
        assert event["type"] == "http.response.body"
        assert len(event.get("body", b"")) <= CHUNK_SIZE
        assert event.get("body") or not body  # nothing is said twice
        body += event.get("body", b"")
        more = event.get("more_body", False)
    await client.wait()
    found = {key.decode().title(): value.decode() for key, value in start["headers"]}
    found["ETag"] = found.get("Etag", "")
    return start["status"], found, body
{% endif %}


{% if cookiecutter.__both %}
@pytest.fixture(params=[get_over_wsgi, get_over_asgi])
def get(request: pytest.FixtureRequest, folder: Path) -> Any:
    """A function that asks for a file, over each interface."""
    return lambda name, method="GET", **headers: request.param(
        folder, name, method, {key.replace("_", "-"): headers[key] for key in headers}
    )
{% else %}
@pytest.fixture
def get(folder: Path) -> Any:
    """A function that asks for a file."""
{% if cookiecutter.__asgi %}
    return lambda name, method="GET", **headers: get_over_asgi(
{% else %}
    return lambda name, method="GET", **headers: get_over_wsgi(
{% endif %}
        folder, name, method, {key.replace("_", "-"): headers[key] for key in headers}
    )
{% endif %}


@pytest.mark.parametrize(("name", "content"), [("small.css", SMALL), ("large.css", LARGE)])
def test_file_is_sent_whole_or_in_part(get: Any, name: str, content: bytes) -> None:
    status, headers, body = get(name)
    assert (status, body) == (200, content)
    assert headers["Content-Length"] == str(len(content))

    assert get(name, range="bytes=2-4")[::2] == (206, content[2:5])
    assert get(name, range="bytes=5-")[::2] == (206, content[5:])
    assert get(name, range="bytes=99999999-")[0] == 416
    assert get(name, "HEAD")[::2] == (200, b"")
    assert get(name, "HEAD", range="bytes=2-4")[::2] == (200, b"")
    assert get(name, "POST")[0] == 405


def test_file_that_a_browser_has_is_not_sent_again(get: Any) -> None:
    etag = get("small.css")[1]["ETag"]

    for known in (etag, f"W/{etag}", f'"other", {etag}'):
        assert get("small.css", if_none_match=known)[::2] == (304, b"")
    assert get("small.css", if_none_match='"other"')[0] == 200


def test_part_of_another_version_is_not_sent(get: Any) -> None:
    etag = get("small.css")[1]["ETag"]

    assert get("small.css", range="bytes=2-4", if_range=etag)[::2] == (206, SMALL[2:5])
    assert get("small.css", range="bytes=2-4", if_range='"other"')[::2] == (200, SMALL)
    assert get("small.css", "HEAD", if_range=etag)[::2] == (200, b"")


def test_file_that_did_not_change_is_not_sent_again(get: Any) -> None:
    changed = get("small.css")[1]["Last-Modified"]

    assert get("small.css", if_modified_since=changed)[::2] == (304, b"")
    assert get("small.css", if_modified_since="Sat, 01 Jan 2000 00:00:00 GMT")[0] == 200


def test_file_is_sent_compressed_to_who_can_read_it(get: Any) -> None:
    _, headers, body = get("packed.css", accept_encoding="gzip")

    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == PACKED
    assert "Content-Encoding" not in get("packed.css", accept_encoding="br")[1]


def test_name_of_a_file_may_have_any_letter(get: Any) -> None:
    assert get("grün.css")[::2] == (200, SMALL)
{% if cookiecutter.__wsgi %}


def test_what_is_no_file_is_for_the_wsgi_application(folder: Path) -> None:
    site: Any = WSGIStaticFiles(lambda *seen: seen, root=folder, prefix="/static/")

    for path in ("/static/no.css", "/static/\xff\xfe"):  # the second is no UTF-8
        arguments: Any = ({"PATH_INFO": path, "REQUEST_METHOD": "GET"}, print)
        assert site(*arguments) == arguments


def test_wsgi_server_sends_a_large_file_in_its_own_way(folder: Path) -> None:
    def ask(name: str, **environ: str) -> tuple[str, Any]:
        started: list[str] = []
        body = site(
            {
                "PATH_INFO": f"/static/{name}",
                "REQUEST_METHOD": "GET",
                "wsgi.file_wrapper": lambda file, size: (file, size),
                **environ,
            },
            lambda status, headers: started.append(status),
        )
        return started[0], body

    site = WSGIStaticFiles(None, root=folder, prefix="/static/")

    status, (file, size) = ask("large.css")
    with file:
        assert (status, size, file.read()) == ("200 OK", CHUNK_SIZE, LARGE)
    assert ask("small.css") == ("200 OK", [SMALL])
    # It would send the rest of the file.
    status, pieces = ask("large.css", HTTP_RANGE=f"bytes=1-{2 * CHUNK_SIZE}")
    lengths = list(map(len, pieces))
    assert (status, lengths) == ("206 Partial Content", [CHUNK_SIZE, CHUNK_SIZE])


def test_piece_is_sent_by_wsgi_at_once(folder: Path) -> None:
    (folder / "piece.css").write_bytes(bytes(CHUNK_SIZE))
    site = WSGIStaticFiles(None, root=folder, prefix="/static/")
    asked = {"PATH_INFO": "/static/piece.css", "REQUEST_METHOD": "GET"}

    assert site(asked, lambda status, headers: None) == [bytes(CHUNK_SIZE)]
{% endif %}
{% if cookiecutter.__asgi %}


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_what_is_no_file_is_for_the_asgi_application(folder: Path, kind: str) -> None:
    seen: list[Any] = []

    async def application(*arguments: Any) -> None:
        seen.extend(arguments)

    site = ASGIStaticFiles(application, root=folder, prefix="/static/")
    name = "no.css" if kind == "http" else "small.css"
    arguments: Any = ({"type": kind, "path": f"/static/{name}"}, "receive", "send")
    async_to_sync(site)(*arguments)

    assert seen == list(arguments)


def test_others_have_their_turn_while_a_large_file_is_sent(folder: Path) -> None:
    """Also where the server takes every piece at once."""
    site: Any = ASGIStaticFiles(None, root=folder, prefix="/static/")
    scope = {"type": "http", "method": "GET", "path": "/static/large.css", "headers": []}
    sent: list[Any] = []
    seen: set[int] = set()

    async def send(event: Any) -> None:
        sent.append(event)

    async def other() -> None:
        while True:
            seen.add(len(sent))
            await asyncio.sleep(0)

    async def both() -> None:
        task = asyncio.create_task(other())
        await site(scope, None, send)
        task.cancel()

    asyncio.run(both())

    assert len(sent) == 4  # its start, and three pieces
    assert {2, 3} <= seen
{% endif %}
