"""Networks of tests, in namespaces that no packet can leave.

`network` has several hosts on one machine. `own_network` has one site and its visitors, and the
test is in it.
"""

import ipaddress
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from tests.services import ended, missing

HERE = Path("/proc/thread-self/ns/net")
# The placeholder in nginx.conf.
DOMAIN = "example.com"
# Addresses for examples (RFC 5737), all on the lo of an own network.
SITE, CLIENT, OTHER_CLIENT = "192.0.2.1", "192.0.2.10", "192.0.2.11"
getaddrinfo = socket.getaddrinfo


def require() -> None:
    """Skip the test if there can be no namespaces; CI has to be able to have them."""
    if not shutil.which("ip"):
        missing("ip", "iproute2")
    if os.geteuid() != 0:
        missing("root, who may make namespaces,", "sudo, and run the tests with it")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Have this thread, and what it starts, in a namespace, of which this is an open file."""
    with HERE.open() as before:
        os.setns(namespace, os.CLONE_NEWNET)
        try:
            yield
        finally:
            os.setns(before.fileno(), os.CLONE_NEWNET)


@dataclass(frozen=True)
class Host:
    """A host of a network: its name, its address, and the file that names the others."""

    network: "Network"
    name: str
    address: str

    @property
    def namespace(self) -> str:
        return f"{self.network.prefix}-{self.name}"

    @property
    def names(self) -> Path:
        return self.network.names

    @property
    def enter(self) -> list[str]:
        """What runs a command on this host, where the names of all hosts are known."""
        return ["ip", "netns", "exec", self.namespace]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be on this host: sockets that this thread opens are its own."""
        with (Path("/run/netns") / self.namespace).open() as there, inside(there.fileno()):
            yield

    def listed(self, line: bool) -> None:
        """Let the others find this host by its names, or not any more."""
        before, after = (f"#{self.address}", f" {self.address}")
        if not line:
            before, after = after, before
        # In place and of the same length: who reads it meanwhile finds all the others.
        text = self.names.read_text()
        with self.names.open("r+") as file:
            file.write(text.replace(f"{before} ", f"{after} "))

    def unplug(self) -> None:
        """Pull its cable."""
        ip("-n", f"{self.network.prefix}-switch", "link", "set", f"v-{self.name}", "down")

    def plug(self) -> None:
        """Put it back."""
        ip("-n", f"{self.network.prefix}-switch", "link", "set", f"v-{self.name}", "up")


class Network:
    """Hosts by name."""

    def __init__(self, prefix: str, names: Path) -> None:
        self.prefix = prefix
        self.names = names
        self.hosts: dict[str, Host] = {}

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]


# Of the networks of this process.
NUMBERS = itertools.count()


def sweep() -> None:
    """Remove what runs that were killed have left behind."""
    for namespace in Path("/run/netns").glob("tests-*"):
        if not Path(f"/proc/{namespace.name.split('-')[1]}").exists():
            ip("netns", "del", namespace.name)
            shutil.rmtree(Path("/etc/netns") / namespace.name, ignore_errors=True)


@contextmanager
def network(*names: str, first: str = "198.51.100.11") -> Iterator[Network]:
    """Make a network of hosts that have `names`, and addresses from `first` on."""
    require()
    sweep()
    prefix = f"tests-{os.getpid()}-{next(NUMBERS)}"
    switch = f"{prefix}-switch"
    with ExitStack() as undo:
        folder = undo.enter_context(tempfile.TemporaryDirectory(prefix="tests-network-"))
        file = Path(folder) / "hosts"
        file.touch(mode=0o644)
        Path(folder).chmod(0o755)
        made = Network(prefix, file)
        ip("netns", "add", switch)
        undo.callback(ip, "netns", "del", switch)
        ip("-n", switch, "link", "add", "br0", "type", "bridge")
        ip("-n", switch, "link", "set", "br0", "up")
        for number, name in enumerate(names):
            host = Host(made, name, str(ipaddress.ip_address(first) + number))
            ip("netns", "add", host.namespace)
            undo.callback(ip, "netns", "del", host.namespace)
            ip("-n", switch, "link", "add", f"v-{name}", "type", "veth",
               "peer", "name", "eth0", "netns", host.namespace)  # fmt: skip
            ip("-n", switch, "link", "set", f"v-{name}", "master", "br0", "up")
            ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            ip("-n", host.namespace, "link", "set", "lo", "up")
            ip("-n", host.namespace, "link", "set", "eth0", "up")
            made.hosts[name] = host
            # `ip netns exec` shows this in place of /etc/hosts.
            own = Path("/etc/netns") / host.namespace
            own.mkdir(parents=True)
            undo.callback(shutil.rmtree, own)
            (own / "hosts").symlink_to(file)
        file.write_text(
            "127.0.0.1 localhost\n"
            + "".join(f" {host.address} {name}\n" for name, host in made.hosts.items())
        )
        yield made


@contextmanager
def process(
    host: Host, *command: str, log: Path | None = None, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on a host until the end of the block."""
    # Caddy is that of these tests, as its image has: Debian's is older.
    own = Path(sys.executable).parent
    program = shutil.which(command[0], path=f"{own}:/usr/local/bin:/usr/bin:/usr/sbin")
    if not program:
        missing(command[0], command[0])
    with (log or Path("/dev/null")).open("wb") as output:
        started = subprocess.Popen(
            [*host.enter, "env", *(f"{k}={v}" for k, v in variables.items()),
             program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    with ended(started):
        yield started


def resolve(host: Any, *args: Any, **options: Any) -> Any:
    """What a name server says: the site has the domain, and a name that it does not serve."""
    known = host in (DOMAIN, "stranger.example")
    return getaddrinfo(SITE if known else host, *args, **options)


@dataclass(frozen=True)
class OwnNetwork:
    """A network that nobody else is in."""

    namespace: int

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread, and what it starts, in the network."""
        with inside(self.namespace), mock.patch("socket.getaddrinfo", resolve):
            yield


@contextmanager
def own_network() -> Iterator[OwnNetwork]:
    """Make a network with the addresses of the site and of its visitors."""
    require()
    with HERE.open() as home:
        os.unshare(os.CLONE_NEWNET)
        try:
            made = HERE.open()
        finally:
            os.setns(home.fileno(), os.CLONE_NEWNET)
    with made:
        found = OwnNetwork(made.fileno())
        with found.inside():
            ip("link", "set", "lo", "up")
            for address in (SITE, CLIENT, OTHER_CLIENT):
                ip("address", "add", f"{address}/32", "dev", "lo")
        yield found
