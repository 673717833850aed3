"""Who is asking, and the id of a request (serving/edge.py)."""

import pytest

from serving.edge import identify

from .requests import PROXY, STRANGER


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        (STRANGER, "", STRANGER),
        (STRANGER, "192.0.2.1", STRANGER),  # forged
        (PROXY, "", PROXY),
        (PROXY, "192.0.2.1", "192.0.2.1"),
        (PROXY, "192.0.2.1:4711", "192.0.2.1"),
        (PROXY, "2001:db8::1", "2001:db8::1"),
        (PROXY, "[2001:db8::1]:4711", "2001:db8::1"),
        (PROXY, "203.0.113.9, 192.0.2.1", "192.0.2.1"),  # the first is forged
        (PROXY, "192.0.2.1, 10.0.0.4", "192.0.2.1"),  # two proxies of ours
        (PROXY, "192.0.2.1, nonsense", PROXY),
        (PROXY, "fe80::1%<b>", PROXY),
        ("::ffff:127.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:198.51.100.7", "", "198.51.100.7"),
        ("", "192.0.2.1", "192.0.2.1"),  # a Unix socket
    ],
)
def test_client_is_the_first_address_that_is_no_proxy_of_ours(
    peer: str, forwarded_for: str, address: str
) -> None:
    headers = {"x-forwarded-for": forwarded_for}

    assert identify(peer, False, lambda name: headers.get(name, "")).address == address


@pytest.mark.parametrize(
    ("peer", "encrypted", "proto", "secure"),
    [
        (PROXY, False, "https", True),
        (PROXY, False, "wss", True),
        (PROXY, False, "http, HTTPS ", True),  # the newest hop stands last
        (PROXY, False, "", False),
        (PROXY, True, "", True),
        (PROXY, True, "http", False),
        (PROXY, True, "ws", False),
        (PROXY, True, "https,http", False),
        (STRANGER, False, "https", False),
        (STRANGER, True, "http", True),
    ],
)
def test_scheme_is_believed_from_a_proxy_only(
    peer: str, encrypted: bool, proto: str, secure: bool
) -> None:
    headers = {"x-forwarded-proto": proto}

    assert identify(peer, encrypted, lambda name: headers.get(name, "")).secure is secure


def test_request_id_is_believed_from_a_proxy_only() -> None:
    def request_id(peer: str, value: str) -> str:
        headers = {"x-request-id": value}
        return identify(peer, False, lambda name: headers.get(name, "")).request_id

    assert request_id(PROXY, "abc-1") == "abc-1"
    assert request_id(STRANGER, "abc-1") != "abc-1"
    assert request_id(PROXY, 'a"}\n{"forged') != 'a"}\n{"forged'
    assert request_id(PROXY, "a" * 128) == "a" * 128
    assert request_id(PROXY, "a" * 129) != "a" * 129
    assert request_id(PROXY, "") != request_id(PROXY, "")
