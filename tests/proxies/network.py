"""A network that only one site and its visitors are in; tests/network.py has several machines."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.proxies.commands import program, run

# The placeholder in nginx.conf.
DOMAIN = "example.com"
# Addresses for examples (RFC 5737), all on this network's lo.
SITE, CLIENT, OTHER_CLIENT = "192.0.2.1", "192.0.2.10", "192.0.2.11"
getaddrinfo = socket.getaddrinfo


def resolve(host: Any, *args: Any, **options: Any) -> Any:
    """What a name server says: the site has the domain, and a name that it does not serve."""
    known = host in (DOMAIN, "stranger.example")
    return getaddrinfo(SITE if known else host, *args, **options)


@dataclass(frozen=True)
class Network:
    """A network that nobody else is in."""

    handle: int

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread, and what it starts, in the network."""
        with here().open("rb") as home:
            os.setns(self.handle, os.CLONE_NEWNET)
            try:
                with mock.patch("socket.getaddrinfo", resolve):
                    yield
            finally:
                os.setns(home.fileno(), os.CLONE_NEWNET)


def here() -> Path:
    return Path("/proc/thread-self/ns/net")


@contextmanager
def network() -> Iterator[Network]:
    """Make a network with the addresses of the site and of its visitors."""
    if os.geteuid() != 0:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("Only root can make a network of its own.")
    with here().open("rb") as home:
        os.unshare(os.CLONE_NEWNET)
        try:
            made = here().open("rb")
        finally:
            os.setns(home.fileno(), os.CLONE_NEWNET)
    with made:
        found = Network(made.fileno())
        with found.inside():
            run(program("ip", "iproute2"), "link", "set", "lo", "up")
            for address in (SITE, CLIENT, OTHER_CLIENT):
                run("ip", "address", "add", f"{address}/32", "dev", "lo")
        yield found
