"""What a request is behind a proxy: its address, its client, its limits."""

import re
import socket
import ssl
import time
from contextlib import ExitStack, suppress

import httpx
import pytest

from tests.network import CLIENT, DOMAIN, OTHER_CLIENT, SITE
from tests.proxies.front import Front
from tests.proxies.programs import ORIGIN
from tests.site import Site

pytestmark = pytest.mark.deploy

# Paths whose answer tells what Django knows of a request, one for each server.
FACTS = {
    "wsgi": ["/probe/facts/"],
    "asgi": ["/probe/facts/"],
    "both": ["/probe/facts/", "/async/facts/"],
}


def test_plain_http_is_redirected_and_browsers_remember(front: Front) -> None:
    redirect = front.get(f"http://{DOMAIN}/x/?y=1")
    page = front.get("/")

    assert redirect.status_code in (301, 308)
    assert redirect.headers["Location"] == f"{ORIGIN}/x/?y=1"
    assert page.status_code == 200
    assert "max-age=31536000" in page.headers["Strict-Transport-Security"]
    if front.proxy == "nginx":
        # What has to be there before there is a certificate.
        challenge = front.get(f"http://{DOMAIN}/.well-known/acme-challenge/token")
        assert challenge.text == "proof"


def shake_hands(name: str | None) -> str | None:
    """Ask for an encrypted connection to `name`; return the protocol that is agreed on."""
    any_certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    any_certificate.check_hostname, any_certificate.verify_mode = False, ssl.CERT_NONE
    any_certificate.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((SITE, 443), timeout=20) as connection,
        any_certificate.wrap_socket(connection, server_hostname=name) as encrypted,
    ):
        return encrypted.selected_alpn_protocol()


def test_http_2_is_offered(front: Front) -> None:
    assert shake_hands(DOMAIN) == "h2"


def test_strangers_names_are_refused(front: Front) -> None:
    stranger = "stranger.example"

    for name in (stranger, None):
        with pytest.raises(ssl.SSLError):
            shake_hands(name)
    # A certificate for one name, and the Host header of another.
    with front.browser() as client, pytest.raises(httpx.TransportError):
        client.get("/", headers={"Host": stranger})
    # Over plain http there is no answer, or the advice to be refused over https.
    with front.browser() as client, suppress(httpx.RemoteProtocolError):
        answer = client.get(f"http://{stranger}/")
        assert (answer.status_code, answer.content) == (308, b"")
        assert answer.headers["Location"] == f"https://{stranger}/"


def test_pages_and_live_paths_have_their_servers(front: Front) -> None:
    interface = {"wsgi": "WSGI", "asgi": "ASGI", "both": "WSGI"}[front.interface]

    assert f'<dd id="interface">{interface}</dd>' in front.get("/").text
    if front.interface == "both":
        assert front.get("/async/status/").json()["interface"] == "ASGI"
        assert front.get("/probe/facts/").json()["pid"] != front.get("/async/facts/").json()["pid"]


def test_client_is_known_and_what_it_claims_is_not_believed(front: Front) -> None:
    forged = {
        "X-Forwarded-For": "203.0.113.9",
        "X_Forwarded_For": "203.0.113.9",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "stranger.example",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9;proto=http",
        "X-Request-ID": "forged",
    }
    for path in FACTS[front.interface]:
        for headers in ({}, forged):
            answer = front.get(path, headers=headers)
            facts = answer.json()
            assert facts["address"] == CLIENT
            assert facts["secure"] is True
            assert facts["forwarded"] == []
            # The proxy's own, which has at most hyphens in it.
            assert re.fullmatch(r"[0-9a-f-]{32,36}", facts["request_id"])
            assert answer.headers["X-Request-ID"] == facts["request_id"]


# Of serving/sockets.py: without a log-in, of one address in each process.
SOCKETS_OF_ADDRESS = 50


def test_address_of_a_socket_is_not_what_its_client_claims(front: Front) -> None:
    """Or the limit of sockets without a log-in would be none."""
    if not front.project.is_(realtime="channels"):
        return
    processes = int(front.servers[-1].variables["WEB_CONCURRENCY"])
    with ExitStack() as stack:

        def ask(address: str, *headers: str) -> int:
            """Ask for a socket, and keep it open; return the status."""
            lines = [
                "GET /ws/status/ HTTP/1.1", f"Host: {DOMAIN}", "Upgrade: websocket",
                "Connection: Upgrade", f"Origin: {ORIGIN}", "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", *headers,
            ]  # fmt: skip
            plain = socket.create_connection((SITE, 443), 30, source_address=(address, 0))
            encrypted = front.trust.wrap_socket(plain, server_hostname=DOMAIN)
            stack.enter_context(encrypted)
            encrypted.sendall("\r\n".join([*lines, "", ""]).encode())
            return int(encrypted.recv(4096).split()[1])

        found = []
        while 429 not in found and len(found) <= SOCKETS_OF_ADDRESS * processes:
            claimed = f"203.0.113.{len(found)}"
            forged = ("X-Forwarded-For", "X_Forwarded_For", "X-Real-IP")
            headers = [f"{name}: {claimed}" for name in forged]
            found.append(ask(CLIENT, *headers, f"Forwarded: for={claimed}"))
        assert set(found) == {101, 429}, "each was taken for somebody else"
        assert len(found) > SOCKETS_OF_ADDRESS
        # Somebody else is let in.
        assert ask(OTHER_CLIENT) == 101
    log = "".join(server.log.read_text() for server in front.servers)
    assert '"refused": "too many sockets of this address"' in log
    assert "203.0.113." not in log


def test_readiness_is_told_inside_only(front: Front) -> None:
    assert front.get("/health/live").status_code == 200
    assert front.get("/health/ready").status_code == 404
    assert front.get("/health/%72eady").status_code == 404
    assert front.servers[0].get("/health/ready").status_code == 200


def test_log_in_works_and_its_cookies_are_for_https_only(front: Front) -> None:
    with front.browser("ada") as client:
        assert client.get("/admin/").status_code == 200
        cookies = {cookie.name: cookie for cookie in client.cookies.jar}
        assert {"sessionid", "csrftoken"} <= set(cookies)
        assert all(cookie.secure for cookie in cookies.values())
        for origin in ("https://stranger.example", f"http://{DOMAIN}"):
            client.headers["Origin"] = origin
            assert Site.submit(client, "/admin/password_change/").status_code == 403


def test_headers_are_bounded(front: Front) -> None:
    small, large = ({f"X-{n}": "x" * 3500 for n in range(count)} for count in (4, 6))

    assert front.get("/", headers=small).status_code == 200
    refusal = front.get("/", headers=large)
    # By the server, in the same words behind every proxy.
    assert refusal.status_code == 431
    assert "Request Header Fields Too Large" in refusal.text


def test_attempts_to_log_in_are_limited_and_nothing_else_is(front: Front) -> None:
    if front.proxy != "nginx":
        return
    site = (front.folder / "nginx/etc/nginx/sites-enabled/site").read_text()
    burst = int(re.search(r"burst=(\d+)", site)[1])  # type: ignore[index]
    pause = 60 / int(re.search(r"rate=(\d+)r/m", site)[1])  # type: ignore[index]
    forms = ("/accounts/login/", "/admin/login/", "/accounts/password_reset/")
    with front.browser(address=OTHER_CLIENT) as client:
        started = time.monotonic()
        # Without a token each is a 403 of Django's.
        found = [client.post(forms[n % 3]).status_code for n in range(2 * burst + 6)]
        assert found[: burst + 1] == [403] * (burst + 1)
        assert found.count(429) == len(found) - found.count(403)
        # Meanwhile one came in with each pause.
        assert found.count(403) <= burst + 2 + (time.monotonic() - started) / pause
        for path in forms:
            assert client.get(path).status_code == 200
        assert client.post("/probe/upload/").status_code == 200
    # Nobody else is held up.
    with front.browser() as client:
        assert client.post("/accounts/login/").status_code == 403
