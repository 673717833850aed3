"""Any bytes in a path, a query, a header, a form or a frame: an answer, and never a 500."""

import re
import socket
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from tests import raw
from tests.combinations import name_of
from tests.conftest import Prepare
from tests.house import variables_of
from tests.site import COMMANDS, Site, next_frame, running

pytestmark = pytest.mark.serve

WAYS = [
    ({"interface": interface, "realtime": realtime, "database": "postgresql"}, start)
    for interface, realtime, start in (
        ("wsgi", "none", "gunicorn"),
        ("asgi", "sse", "uvicorn"),
        # gunicorn for pages, and uvicorn for all of it.
        ("both", "channels", "no-proxy"),
    )
]

# As bytes of a URL; every one is in its turn a part of a path, of a query and of a form.
ODD = [
    "%00", "a%00b", "%", "%zz", "%ff%fe", "%ed%a0%80", "%c0%80", "%f0%9f%92%a9", "%e2%80%ae",
    "%0d%0aX-Injected:%20yes", "%0a", "%25%30%30", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..%5c",
    "-1", "0", "9" * 20, "9" * 5000, "1e999", "NaN", "%7b%7b7*7%7d%7d", "%s%n%25s", "%27%22%3c%3e",
    "a" * 2000, "[%5b%5d", "%u0000", "%EF%BB%BF", "%5c000", "true", "None",
]  # fmt: skip
PATHS = [
    "/{}", "/{}/", "/accounts/login/{}", "/admin/{}/", "/static/{}", "/media/{}", "/health/{}",
    "/chat/{}/", "/notifications/{}/", "/accounts/reset/{}/{}/",
    "/?{}", "/?a={}", "/?{}={}", "/accounts/login/?next={}", "/chat/?room={}",
]  # fmt: skip
STREAMS = ["/events/?after={}", "/events/?user={}", "/events/?{}={}", "/events/{}"]
ADMIN = [
    "/admin/users/user/{}/change/", "/admin/users/user/{}/history/", "/admin/users/user/?q={}",
    "/admin/users/user/?id__exact={}", "/admin/users/user/?username={}",
    "/admin/users/user/?is_staff__exact={}", "/admin/users/user/?p={}", "/admin/users/user/?o={}",
    "/admin/users/user/?date_joined__gte={}", "/admin/users/user/?groups__id__exact={}",
    "/admin/jsi18n/?language={}", "/admin/autocomplete/?term={}",
]  # fmt: skip
# Of sockets; and what they are asked for with.
SOCKETS = [
    "/ws/chat/{}/", "/ws/{}", "/ws/chat/odd/?after={}", "/ws/chat/odd/?{}", "/ws/chat/odd/?{}={}",
]  # fmt: skip
HANDSHAKE = {
    "Upgrade": b"websocket", "Connection": b"Upgrade", "Sec-WebSocket-Version": b"13",
    "Sec-WebSocket-Key": b"AAAAAAAAAAAAAAAAAAAAAA==",
}  # fmt: skip
# As bytes of a header.
VALUES = [
    b"", b" ", b"\xff\xfe", b"\xed\xa0\x80", b"\xf0\x9f\x92\xa9", b'"abcdefgh\\000"', b'"\\ud800"',
    b'"' * 50, b"=" * 50, b";" * 50, b"," * 50, b"%00", b"\t", b"9" * 20, b"9" * 5000, b"-1",
    b"a" * 7000, b"1e999", b"../../etc/passwd", b"{{7*7}}", b"\\", b"[::1", b"http://[", b"@", b"*",
    b"bytes=9-1", b"bytes=-", b"bytes=0-0,0-0", b"W/", b"multipart/form-data", b"a/b; charset=\xff",
    b"text/html; charset=no-such", b"Thu, 99 Foo 99999 99:99:99 GMT", b"abcdefgh\x80",
]  # fmt: skip
NAMES = [
    "Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Content-Length",
    "Content-Type", "Content-Encoding", "Expect", "Forwarded", "Host", "If-Match",
    "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Last-Event-ID",
    "Origin", "Range", "Referer", "TE", "Transfer-Encoding", "Upgrade", "User-Agent", "X-CSRFToken",
    "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "X-Request-ID",
    "X-HTTP-Method-Override", "X-Requested-With", "X_Request_ID", "Cookie",
]  # fmt: skip
COOKIES = [
    b"sessionid=", b"csrftoken=", b"messages=", b"django_language=", b"=", b"a=b; sessionid=",
]  # fmt: skip


@pytest.fixture(
    scope="module", params=WAYS, ids=[f"{name_of(answers)}-{start}" for answers, start in WAYS]
)
def site(
    request: pytest.FixtureRequest, prepared: Prepare, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    answers, start = request.param
    project, variables = prepared(answers)
    folder = tmp_path_factory.mktemp(start)
    variables = variables_of(project, start, folder, variables)
    with running(project, COMMANDS[start], folder / "log", start, **variables) as site:
        yield site


def ports(site: Site) -> list[int]:
    """Return the ports of its servers: gunicorn is on the next one."""
    return [site.port, site.port + 1] if site.start == "no-proxy" else [site.port]


def request(path: str, *headers: bytes, method: str = "GET", body: bytes = b"") -> bytes:
    """Return the bytes of a request, after which the connection is closed."""
    lines = [f"{method} {path} HTTP/1.1".encode("latin-1"), *headers]
    if not any(header.startswith(b"Host:") for header in headers):
        lines.append(b"Host: localhost")
    if body:
        lines.append(f"Content-Length: {len(body)}".encode())
    return b"\r\n".join([*lines, b"Connection: close", b"", body])


def handshake(site: Site, path: str, *headers: bytes) -> bytes:
    """Return the bytes of ada's handshake; a header of these takes the place of its own.

    A cookie stands behind hers, and wins if it has the same name.
    """
    given = {header.partition(b":")[0] for header in headers}
    own = HANDSHAKE | {"Host": b"localhost", "Origin": b"http://localhost"}
    lines = [name.encode() + b": " + own[name] for name in own if name.encode() not in given]
    lines.append(b"Cookie: " + site.cookies_of("ada").encode())
    return b"\r\n".join([f"GET {path} HTTP/1.1".encode("latin-1"), *lines, *headers, b"", b""])


def first_status(address: tuple[str, int], data: bytes) -> int | None:
    """Return the status of an answer that may have no end, as one of a socket or a stream."""
    received = b""
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(data)
        # A server that refuses may be gone before all is said.
        try:
            while b"\r\n" not in received and (piece := connection.recv(4096)):
                received += piece
        except ConnectionError:
            pass
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", received)
    return int(found[1]) if found else None


def assert_answered(
    site: Site, requests: list[bytes], endless: bool = False
) -> Counter[int | None]:
    """Check that each is answered, with no error of the server's; and that the log says so.

    Return how often each status was the answer. Of `endless` answers the head is read.
    """

    def ask(job: tuple[int, bytes]) -> int | None:
        if endless:
            return first_status((site.host, job[0]), job[1])
        return next(iter(raw.say((site.host, job[0]), job[1]).statuses), None)

    jobs = list(product(ports(site), requests))
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, jobs))
    # A request that never ends is not one: its answer may wait for the rest.
    found = [
        f"{job[1][:300]!r}: {status}"
        for job, status in zip(jobs, statuses, strict=True)
        if status is None or (status >= 500 and status != 501)
    ]
    assert not found, "\n".join(found[:20])
    assert_calm(site)
    return Counter(statuses)


def assert_calm(site: Site) -> None:
    errors = [
        line[:2000]
        for line in site.log.splitlines()
        if re.search(r'Traceback|"level": ?"(error|critical)"|Exception', line)
    ]
    assert not errors, "\n".join(errors[:5])


def test_any_path_and_query_is_answered(site: Site) -> None:
    cookies = b"Cookie: " + site.cookies_of("ada").encode()
    for headers in ([], [cookies]):
        # A stream has no end.
        for paths, endless in ((PATHS, False), (STREAMS, True)):
            asked = [request(path.format(odd, odd), *headers) for path in paths for odd in ODD]
            found = assert_answered(site, asked, endless)
    # The last ones were read, and not sent to log in.
    assert site.project.is_(realtime="sse") == (found[200] > 0)


def test_any_address_of_the_admin_is_answered(site: Site) -> None:
    cookies = b"Cookie: " + site.cookies_of("ada").encode()
    assert_answered(site, [request(path.format(odd), cookies) for path in ADMIN for odd in ODD])


def odd_headers() -> list[bytes]:
    headers = [name.encode() + b": " + value for name in NAMES for value in VALUES]
    headers += [b"Cookie: " + name + value for name in COOKIES for value in VALUES]
    # What announces a body that does not come is for test_shapes.py.
    return [h for h in headers if not re.match(rb"Content-Length: (9+|1e999)$|Transfer", h)]


def test_any_header_is_answered(site: Site) -> None:
    assert_answered(site, [request("/", header) for header in odd_headers()])


def test_any_header_of_a_stream_is_answered(site: Site) -> None:
    if site.project.is_(realtime="sse"):
        cookies = b"Cookie: " + site.cookies_of("ada").encode()
        asked = [request("/events/", cookies, header) for header in odd_headers()]
        assert assert_answered(site, asked, endless=True)[200] > 0


def test_any_handshake_is_answered(site: Site) -> None:
    """Also where there are no sockets."""
    headers = odd_headers()
    headers += [
        name.encode() + b": " + value
        for name in (*HANDSHAKE, "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol")
        for value in VALUES
    ]
    asked = [handshake(site, "/ws/chat/odd/", header) for header in headers]
    asked += [handshake(site, path.format(odd, odd)) for path in SOCKETS for odd in ODD]
    found = assert_answered(site, asked, endless=True)
    # Most of them open a socket, and so all of it was read.
    assert (found[101] > 1000) == site.project.is_(realtime="channels"), found


# Fields of the forms of somebody who is logged in, all of which are sent, one of them odd.
FORMS = {
    "/notifications/": ["text"],
    # Without the old one nothing is changed.
    "/accounts/password_change/": ["old_password", "new_password1", "new_password2"],
    "/accounts/password_reset/": ["email"],
    "/accounts/reset/MQ/set-password/": ["new_password1", "new_password2"],
    "/admin/users/user/add/": ["username", "usable_password", "_popup", "_to_field"],
    "/admin/users/user/": ["action", "_selected_action", "select_across", "index"],
}


def test_any_form_is_answered(site: Site) -> None:
    with site.browser() as client:
        page = client.get("/accounts/login/").text
        token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[0]
        cookie = f"Cookie: csrftoken={client.cookies['csrftoken']}".encode()
    urlencoded = b"Content-Type: application/x-www-form-urlencoded"
    requests = []
    for field, odd in product(("username", "password", "next", "%00", "csrfmiddlewaretoken"), ODD):
        body = f"csrfmiddlewaretoken={token}&username=a&password=b&{field}={odd}".encode()
        requests.append(request("/accounts/login/", urlencoded, cookie, method="POST", body=body))
    own = site.cookies_of("ada")
    own_token = re.findall(r"csrftoken=(\w+)", own)[0]
    for path, fields in FORMS.items():
        for field, odd in product((*fields, "%00"), ODD):
            body = f"csrfmiddlewaretoken={own_token}&{field}={odd}".encode()
            headers = (urlencoded, f"Cookie: {own}".encode())
            requests.append(request(path, *headers, method="POST", body=body))
    multipart = b"Content-Type: multipart/form-data; boundary=x"
    # More than Django reads of a form.
    file = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\na\r\n'
    for kind, body in (
        (urlencoded, "a=a&" * 2000), (urlencoded, "a=" + "a" * 3_000_000),
        (multipart, file * 200 + b"--x--\r\n"),
    ):  # fmt: skip
        body = body.encode() if isinstance(body, str) else body
        requests.append(request("/accounts/login/", kind, cookie, method="POST", body=body))
    for value in VALUES:
        for head in (b'name="username"', b'name="%b"', b'name="a"; filename="%b"', b"%b"):
            part = head.replace(b"%b", value)
            body = (
                b'--x\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n'
                + token.encode()
                + b"\r\n--x\r\nContent-Disposition: form-data; "
                + part
                + b"\r\n\r\n"
                + value
                + b"\r\n--x--\r\n"
            )
            requests.append(
                request("/accounts/login/", multipart, cookie, method="POST", body=body)
            )
    for kind in (b"application/json", b"text/plain; charset=utf-16", b"", b"multipart/form-data"):
        requests.append(
            request("/", b"Content-Type: " + kind, cookie, method="POST", body=b"\x00\xff" * 9)
        )
    assert_answered(site, requests)


# As texts of frames; \\u is JSON's.
FRAMES = [
    "", " ", "\0", "{", "null", "[]", "{}", "0", "NaN", '"\\ud800"', "[" * 30_000, '{"a":' * 10_000,
    "9" * 5000, '{"type": null}', '{"type": []}', '{"type": {}}', '{"type": "message"}',
    '{"type": "\\u0000"}', '{"type": "\\ud800"}', '{"type": "chat.message"}',
    "\N{RIGHT-TO-LEFT OVERRIDE}", "\N{BYTE ORDER MARK}{}", '{"type": "message", "type": "message"}',
]  # fmt: skip
FIELDS = [
    "null", "true", "-1", "9" * 5000, "1e999", "NaN", "1.5", '""', '"\\u0000"', '"\\ud800"',
    '"\\ud83d"', "[]", "{}", "[" * 9000 + "]" * 9000, '"' + "a" * 60_000 + '"', '"\\u202e"', '" "',
]  # fmt: skip


def test_any_frame_is_answered_and_its_socket_goes_on(site: Site) -> None:
    if not site.project.is_(realtime="channels"):
        return
    frames: list[str | bytes] = [*FRAMES, b"", b"\x00", b"\xff" * 100, b"{}"]
    for name, value in product(("type", "key", "text", "id", "after", "room", "other"), FIELDS):
        known = {"type": '"message"', "key": f'"{uuid.uuid4().hex}"', "text": '"x"'}
        fields = ", ".join(f'"{n}": {v}' for n, v in (known | {name: value}).items())
        frames.append(f"{{{fields}}}")
    # A new socket for each few: who says much in one is told to wait.
    for start in range(0, len(frames), 20):
        with site.socket(path=f"/ws/chat/odd-{start}/") as socket:
            for frame in frames[start : start + 20]:
                socket.send(frame)
                assert next_frame(socket, "error", "stored"), frame[:100]
    assert_calm(site)
