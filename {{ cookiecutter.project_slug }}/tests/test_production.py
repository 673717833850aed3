"""The responses of the production servers. Each server is started once on this machine."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path

import pytest

# These tests need no database and no Redis.
PRODUCTION = {
    "DJANGO_DEBUG": "false",
    "DJANGO_HTTPS": "true",
    "DJANGO_SECRET_KEY": "secret-of-the-tests",
    "DJANGO_ALLOWED_HOSTS": "example.com",
    "FORWARDED_ALLOW_IPS": "127.0.0.1",
    "HOST": "127.0.0.1",
    "WEB_CONCURRENCY": "1",
{% if cookiecutter.__postgresql %}
    "DATABASE_URL": "postgresql://user:password@127.0.0.1:9/name",
{% endif %}
{% if cookiecutter.__live %}
    "REDIS_URL": "redis://127.0.0.1:9/0",
{% endif %}
}
# collectstatic writes to a temporary folder.
SETTINGS = "from config.settings import *\n\nSTATIC_ROOT = {!r}\n"
SERVERS = {
{% if cookiecutter.__wsgi %}
    "gunicorn": ["gunicorn", "--config", "config/gunicorn.conf.py"],
{% endif %}
{% if cookiecutter.__asgi %}
    "uvicorn": ["config.uvicorn_conf"],
{% endif %}
}
# The header of a proxy for a client that uses https.
HTTPS = {"X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables of a release whose static files are collected."""
    folder = tmp_path_factory.mktemp("production")
    (folder / "production.py").write_text(SETTINGS.format(str(folder / "static")))
    environment = os.environ | PRODUCTION | {"DJANGO_SETTINGS_MODULE": "production"}
    environment["PYTHONPATH"] = f"{folder}{os.pathsep}."
    collect = [sys.executable, "manage.py", "collectstatic", "--no-input", "-v", "0"]
    subprocess.run(collect, env=environment, check=True)  # noqa: S603
    return environment


@pytest.fixture(scope="module", params=SERVERS)
def port(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[int]:
    """The port of each server in turn."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", *SERVERS[request.param]]
    variables = environment | {"PORT": str(port)}
    with subprocess.Popen(command, env=variables) as server:  # noqa: S603
        try:
            while not answers(port):
                assert server.poll() is None, "the server ended at once"
                time.sleep(0.1)
            yield port
        finally:
            server.terminate()


def answers(port: int) -> bool:
    """Return whether the server accepts connections already."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def fetch(
    port: int, path: str, headers: dict[str, str], method: str = "GET"
) -> tuple[int, HTTPMessage, str]:
    """Return status, headers and text of a response to the proxy."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": "example.com"} | headers)
    response = connection.getresponse()
    text = "" if response.status == 101 else response.read().decode()
    connection.close()
    response.close()
    return response.status, response.headers, text


def test_plain_http_is_redirected_to_https(port: int) -> None:
    status, headers, _ = fetch(port, "/accounts/login/", {})

    assert status == 301
    assert headers["Location"] == "https://example.com/accounts/login/"


def test_page_has_hsts_and_a_content_security_policy(port: int) -> None:
    status, headers, _ = fetch(port, "/accounts/login/", HTTPS)

    assert status == 200
    assert headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "report-uri" not in headers["Content-Security-Policy"]


def test_form_is_accepted_from_this_site_and_not_from_another(port: int) -> None:
    page = "/admin/login/"
    cookie = fetch(port, page, HTTPS)[1]["Set-Cookie"].partition(";")[0]
    form = HTTPS | {"Cookie": cookie, "X-CSRFToken": cookie.removeprefix("csrftoken=")}

    for origin, status in (("https://example.com", 200), ("https://other.example", 403)):
        assert fetch(port, page, form | {"Origin": origin}, "POST")[0] == status


def test_readme_names_all_environment_variables() -> None:
    read = re.findall(r'env\.\w+\(\s*"(\w+)"', Path("config/environment.py").read_text())
    named = re.findall(r"^\| `([A-Z_]+)` \|", Path("README.md").read_text(), re.M)

    assert sorted(named) == sorted(read)
{% if cookiecutter.__channels %}


@pytest.mark.parametrize("port", ["uvicorn"], indirect=True)
def test_websocket_opens_from_this_site_and_not_from_another(port: int) -> None:
    upgrade = HTTPS | {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }

    for origin, status in (("https://example.com", 101), ("https://other.example", 403)):
        assert fetch(port, "/ws/status/", upgrade | {"Origin": origin})[0] == status
{% endif %}


def test_static_file_has_a_hash_in_its_name_and_is_cached(port: int) -> None:
    _, _, page = fetch(port, "/no/such/page/", HTTPS)  # with the style of all pages
    style = re.search(r'href="(/static/[\w/]+\.[0-9a-f]{12}\.css)"', page)
    assert style

    status, headers, _ = fetch(port, style[1], HTTPS)

    assert status == 200
    assert "immutable" in headers["Cache-Control"]
