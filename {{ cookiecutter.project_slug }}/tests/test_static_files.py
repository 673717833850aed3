"""Static files as the servers send them: ranges and conditions of HTTP (RFC 9110)."""

from pathlib import Path
from typing import Any

import pytest
{% if cookiecutter.__asgi %}
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
{% endif %}

{% if cookiecutter.__both %}
from config.static_files import PIECE, ASGIStaticFiles, WSGIStaticFiles
{% elif cookiecutter.__asgi %}
from config.static_files import PIECE, ASGIStaticFiles
{% else %}
from config.static_files import PIECE, WSGIStaticFiles
{% endif %}

SMALL = b"0123456789"
LARGE = bytes(range(256)) * (3 * PIECE // 256)

type Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.css").write_bytes(SMALL)
    (tmp_path / "large.css").write_bytes(LARGE)
    return tmp_path
{% if cookiecutter.__wsgi %}


def get_over_wsgi(folder: Path, name: str, method: str, headers: dict[str, str]) -> Answer:
    """Ask as a WSGI server does."""
    started: list[Any] = []
    site = WSGIStaticFiles(None, root=folder, prefix="/static/")
    environ = {f"HTTP_{key.upper().replace('-', '_')}": headers[key] for key in headers}
    body = site(
        {**environ, "PATH_INFO": f"/static/{name}", "REQUEST_METHOD": method},
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
    body, more = b"", True
    while more:
        event = await client.receive_output()
        body += event.get("body", b"")
        more = event.get("more_body", False)
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
