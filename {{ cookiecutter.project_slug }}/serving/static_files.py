# The template updates this file: see serving/README.md.
"""Static files: servestatic finds them, and this module sends them.

servestatic's class for ASGI starts a thread for each request, which reads 8 KiB at a time.
That costs twenty times as much, and a slow client occupies a thread. Its class for WSGI
reads ranges in the same way. This module relies on `files` of both, and its responses.
"""

{% if cookiecutter.__asgi %}
import asyncio
{% endif %}
{% if cookiecutter.__wsgi %}
from collections.abc import Callable, Iterable, Iterator
{% endif %}
from pathlib import Path
from typing import Any

from django.conf import settings
{% if cookiecutter.__both %}
from servestatic import ServeStatic, ServeStaticASGI
from servestatic.base import ServeStaticBase

from serving.edge import Receive, Send
{% elif cookiecutter.__asgi %}
from servestatic import ServeStaticASGI
from servestatic.base import ServeStaticBase

from serving.edge import Receive, Send
{% else %}
from servestatic import ServeStatic
from servestatic.base import ServeStaticBase
{% endif %}

# Bytes per read, and the maximum in memory for a slow client. Local files are mostly
# cached, so reading is faster than switching to a thread.
CHUNK_SIZE = 64 * 1024
{% if cookiecutter.__asgi %}

# The request headers that servestatic uses, with their WSGI names.
HEADERS = {
    b"accept-encoding": "HTTP_ACCEPT_ENCODING",
    b"if-modified-since": "HTTP_IF_MODIFIED_SINCE",
    b"if-none-match": "HTTP_IF_NONE_MATCH",
    b"if-range": "HTTP_IF_RANGE",
    b"range": "HTTP_RANGE",
}
{% endif %}


def respond(file: Any, method: str, request: dict[str, Any]) -> Any:
    """Return servestatic's response to a request, whose headers have their WSGI names.

    This adds what servestatic lacks of RFC 9110: If-None-Match can have several ETags, and
    weak ones (W/"…"), which proxies make. A range is valid for GET only, and only if
    If-Range has the file's ETag.
    """
    if file.etag and file.etag in request.get("HTTP_IF_NONE_MATCH", ""):
        request["HTTP_IF_NONE_MATCH"] = file.etag
    if method != "GET" or request.get("HTTP_IF_RANGE", file.etag) != file.etag:
        request.pop("HTTP_RANGE", None)
    return file.get_response(method, request)


class Published(ServeStaticBase):
    """The static files without staticfiles.json, which is for collectstatic itself."""

    def add_file_to_dictionary(self, url: str, path: str, *args: Any, **named: Any) -> None:
        if Path(path) != Path(settings.STATIC_ROOT, "staticfiles.json"):
            super().add_file_to_dictionary(url, path, *args, **named)
{% if cookiecutter.__wsgi %}


class WSGIStaticFiles(Published, ServeStatic):
    """Wraps a WSGI application, and serves the paths of static files itself."""

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        # WSGI decodes the bytes of a path as latin-1 (PEP 3333).
        path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
        file = self.files.get(path)
        # HTTP/1.1 requires Host. The edge refuses requests without it.
        optional = environ.get("SERVER_PROTOCOL") != "HTTP/1.1"
        if file is None or not environ.get("HTTP_HOST", optional):
            other: Iterable[bytes] = self.application(environ, start_response)
            return other

        response = respond(file, environ["REQUEST_METHOD"], environ)
        start_response(f"{response.status} {response.status.phrase}", response.headers)
        if response.file is None:
            return []
        if int(dict(response.headers)["Content-Length"]) <= CHUNK_SIZE:
            with response.file as body:
                return [body.read()]
        if response.status == 200 and "wsgi.file_wrapper" in environ:
            # sendfile(): the kernel copies the file to the network.
            whole: Iterable[bytes] = environ["wsgi.file_wrapper"](response.file, CHUNK_SIZE)
            return whole
        return chunks(response.file)


def chunks(file: Any) -> Iterator[bytes]:
    """Read a file, or a range of it, and close it."""
    with file:
        while chunk := file.read(CHUNK_SIZE):
            yield chunk
{% endif %}
{% if cookiecutter.__asgi %}


class ASGIStaticFiles(Published, ServeStaticASGI):
    """Wraps an ASGI application, and serves the paths of static files itself."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        file = self.files.get(scope["path"]) if scope["type"] == "http" else None
        # HTTP/1.1 requires Host. The edge refuses requests without it.
        optional = scope.get("http_version") != "1.1"
        if file is None or not (optional or any(n == b"host" for n, _ in scope["headers"])):
            await self.application(scope, receive, send)
            return

        request = {
            HEADERS[name]: value.decode("latin-1")
            for name, value in scope["headers"]
            if name in HEADERS
        }
        response = respond(file, scope["method"], request)
        await send(
            {
                "type": "http.response.start",
                "status": int(response.status),
                "headers": [
                    (name.lower().encode("latin-1"), value.encode("latin-1"))
                    for name, value in response.headers
                ],
            }
        )
        if response.file is None:
            await send({"type": "http.response.body"})
            return
        left = int(dict(response.headers)["Content-Length"])
        with response.file as body:
            while left > CHUNK_SIZE:
                chunk = body.read(CHUNK_SIZE)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                left -= CHUNK_SIZE
                # send() does not wait if the client has disconnected. Let other tasks run.
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": body.read()})
{% endif %}
