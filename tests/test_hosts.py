"""Several machines: a proxy, two for the application, one for PostgreSQL and Redis.

Each is a network namespace on a switch with cables that can be pulled. The machines of the
application run its image, and the proxy has its Caddyfile.
"""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from websockets.exceptions import WebSocketException

from tests.combinations import SITES, name_of
from tests.containers import Built, Container, add_user, container, wait_healthy
from tests.network import Host, Network, network, process
from tests.project import PRODUCTION
from tests.services import answers, postgresql, wait_until
from tests.site import COMMANDS, Site, next_frame, say
from tests.talk import Talk

pytestmark = pytest.mark.deploy

# What runs on a machine of the application, each with an address of its own.
ROLES = {
    "asgi": {"web": "uvicorn"},
    "both": {"pages": "gunicorn", "live": "uvicorn"},
}


# Seconds until Caddy has looked its upstreams up again: it does every 2, and believes for 5 more
# what it read in the file of names.
LOOKUP = 8


class Machine:
    """A machine of the application: a container for each role."""

    def __init__(self, number: int, farm: "Farm") -> None:
        self.farm = farm
        self.hosts = {role: farm.network[f"{role}{number}"] for role in farm.roles}
        self.containers: dict[str, Container] = {}
        self.stack = ExitStack()
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        for role, host in self.hosts.items():
            folder = self.farm.folder / f"{host.name}-{self.starts}"
            started = container(
                self.farm.built.image, folder, *COMMANDS[self.farm.roles[role]],
                host=host, **self.farm.variables,
            )  # fmt: skip
            self.containers[role] = self.stack.enter_context(started)
        for box in self.containers.values():
            wait_healthy(box)

    def replace(self) -> None:
        """Do what a release does to a machine: drain its containers, start new ones.

        First nobody is sent there any more, as Kubernetes does it: a proxy may not repeat a POST
        that meets a server which is just closing its connection.
        """
        for host in self.hosts.values():
            host.listed(False)
        time.sleep(LOOKUP)
        for box in self.containers.values():
            box.first.terminate()
        for box in self.containers.values():
            assert box.process.wait(timeout=30) == 0, box.log[-3000:]
        self.start()
        for host in self.hosts.values():
            host.listed(True)
        time.sleep(LOOKUP)

    def unplug(self) -> None:
        for host in self.hosts.values():
            host.unplug()

    def plug(self) -> None:
        for host in self.hosts.values():
            host.plug()

    @property
    def live(self) -> Host:
        """Where its sockets are."""
        return list(self.hosts.values())[-1]


class Farm:
    """All machines of a site, and a client."""

    def __init__(self, built: Built, folder: Path) -> None:
        self.built = built
        self.folder = folder
        self.roles = ROLES[built.project.answers["interface"]]
        self.stack = ExitStack()

    def __enter__(self) -> "Farm":
        with ExitStack() as stack:
            names = [f"{role}{number}" for number in (1, 2) for role in self.roles]
            self.network: Network = stack.enter_context(network("proxy", "data", "client", *names))
            with self.network.names.open("a") as file:
                for role in self.roles:
                    for number in (1, 2):
                        file.write(f" {self.network[f'{role}{number}'].address} {role}\n")
            folder = self.folder
            database = stack.enter_context(TemporaryDirectory(prefix="tests-postgresql-"))
            data, proxy = self.network["data"], self.network["proxy"]
            stack.enter_context(postgresql(Path(database), data, "site", "secret"))
            stack.enter_context(
                process(data, "redis-server", "--save", "", "--protected-mode", "no")
            )
            addresses = [host.address for host in self.network.hosts.values()]
            self.variables = PRODUCTION | {
                "DJANGO_ALLOWED_HOSTS": ",".join(["localhost", *addresses]),
                "DJANGO_HTTPS": "false",
                "DATABASE_URL": "postgresql://site:secret@data:5432/site",
                "REDIS_URL": "redis://data:6379/0",
                "WEB_CONCURRENCY": "2",
                "FORWARDED_ALLOW_IPS": proxy.address,
            }
            with container(
                self.built.image, self.folder / "migrate", "python", "manage.py", "migrate",
                host=self.network[names[0]], **self.variables,
            ) as migrate:  # fmt: skip
                assert migrate.process.wait(timeout=60) == 0, migrate.log
            self.machines = [Machine(number, self) for number in (1, 2)]
            for machine in self.machines:
                stack.enter_context(machine.stack)
                machine.start()
            add_user(next(iter(self.machines[0].containers.values())))
            log = folder / "caddy.log"
            caddy = stack.enter_context(
                process(
                    proxy, "caddy", "run", "--adapter", "caddyfile", "--config",
                    str(self.built.project.path / "deploy" / "Caddyfile"), log=log,
                    SITE_ADDRESS=f"http://{proxy.address}",
                    XDG_CONFIG_HOME=str(folder), XDG_DATA_HOME=str(folder),
                )
            )  # fmt: skip
            self.site = Site(self.built.project, caddy, 80, log, "caddy", host=proxy.address)
            with self.network["client"].entered():
                wait_until(lambda: answers(80, proxy.address), "Caddy listens")
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    @contextmanager
    def talking(self, room: str) -> Iterator[Talk]:
        """Six people in a room, who come in through the proxy."""
        with self.network["client"].entered():
            talk = Talk()  # whose thread is on the client, as this one is
            cookie = {"Cookie": self.site.cookies_of("ada")}
            url = f"ws://{self.site.host}/ws/chat/{room}/"
            talk.begin(
                *((f"{room}-{number}", url, cookie, self.site.origin) for number in range(6))
            )
            try:
                wait_until(lambda: all(person.heard for person in talk.people), "they talk")
                yield talk
            finally:
                talk.end()

    def assert_nothing_lost(self, talk: Talk, room: str) -> None:
        """Everybody heard each message that was said, once, and in one order."""
        said = talk.settle()
        orders = {tuple(person.heard) for person in talk.people}
        for order in orders:
            assert list(order) == sorted(set(order))
        stored = subprocess.run(
            [
                *self.network["data"].enter, "psql", "-X", "-A", "-t", "-c",
                "select json_agg(m.key) from chat_message m join chat_room r on r.id = m.room_id "
                f"where r.name = '{room}'",
                "postgresql://site:secret@127.0.0.1:5432/site",
            ],
            check=True, stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip
        assert sorted(json.loads(stored)) == said


@pytest.fixture(scope="module")
def farm(built_site: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    folder = tmp_path_factory.mktemp("farm")
    for parent in (*reversed(folder.parents), folder):
        if parent.stat().st_mode & 0o777 == 0o700:
            parent.chmod(0o711)  # for the users of containers and of PostgreSQL
    with Farm(built_site, folder) as farm:
        yield farm


MACHINES = pytest.mark.parametrize(
    "built_site",
    [a for a in SITES if a["interface"] in ROLES and name_of(a).endswith("channels-postgresql")],
    indirect=True,
    ids=lambda answers: f"{name_of(answers)}-image",
    scope="session",
)


@MACHINES
def test_message_reaches_a_client_of_the_other_machine(farm: Farm) -> None:
    with farm.network["client"].entered(), ExitStack() as stack:
        one, other = (
            stack.enter_context(farm.site.socket(at=f"{machine.live.address}:8000"))
            for machine in farm.machines
        )
        say(one, "to the other machine")
        assert next_frame(other, "message")["text"] == "to the other machine"
        say(other, "and back")
        texts = [next_frame(one, "message")["text"] for _ in range(2)]
        assert texts == ["to the other machine", "and back"]


@MACHINES
def test_rolling_restart_fails_no_request_and_loses_no_message(farm: Farm) -> None:
    with farm.talking("restart") as talk:
        with visitors(farm) as outcomes:
            for machine in farm.machines:
                machine.replace()
        assert set(outcomes) == {"200"}, outcomes
        assert outcomes["200"] > 50
        # Everybody was on a machine that was replaced.
        assert all(person.connections > 1 for person in talk.people)
        farm.assert_nothing_lost(talk, "restart")


@contextmanager
def visitors(farm: Farm) -> Iterator[dict[str, int]]:
    """Four people who look at one page after the other, and send one that is no GET."""
    outcomes: dict[str, int] = {}
    lock, over = threading.Lock(), threading.Event()

    def visit() -> None:
        with httpx.Client(base_url=farm.site.origin, timeout=30) as client:
            number = 0
            while not over.is_set():
                number += 1
                try:
                    if number % 5:
                        outcome = str(client.get("/accounts/login/").status_code)
                    else:
                        # Refused for want of a token, but answered by the application.
                        answer = client.post("/accounts/login/", data={"username": "x"})
                        outcome = "200" if answer.status_code == 403 else str(answer.status_code)
                except httpx.HTTPError as error:
                    outcome = repr(error)
                with lock:
                    outcomes[outcome] = outcomes.get(outcome, 0) + 1
                time.sleep(0.05)

    # Their threads are on the client's machine, as this one is.
    threads = [threading.Thread(target=visit) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        over.set()
        for thread in threads:
            thread.join()


@MACHINES
def test_machine_that_is_cut_off_loses_nothing_and_comes_back(farm: Farm) -> None:
    cut = farm.machines[1]
    with farm.talking("cut") as talk:
        cut.unplug()
        try:
            time.sleep(8)  # longer than people wait for a sign of life
            before = {person.name: len(person.heard) for person in talk.people}
            wait_until(
                lambda: all(len(p.heard) > before[p.name] for p in talk.people),
                "everybody hears the others through the other machine",
            )
            # Connections that the proxy kept to it swallow a request each, before it is tried
            # again and found to be away.
            wait_until(lambda: page(farm) == 200, "who asks again is answered")
        finally:
            cut.plug()
        farm.assert_nothing_lost(talk, "cut")
        for host in cut.hosts.values():
            wait_until(lambda host=host: ready(host), "it has found database and Redis again")
        wait_until(lambda: stores(farm, cut), "it stores messages again")


def stores(farm: Farm, machine: Machine) -> bool:
    with (
        suppress(OSError, TimeoutError, WebSocketException),
        farm.site.socket(at=f"{machine.live.address}:8000") as socket,
    ):
        say(socket, "here again")
        return bool(next_frame(socket, "stored"))
    return False


def page(farm: Farm) -> int | None:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{farm.site.origin}/accounts/login/", timeout=6).status_code
    return None


def ready(host: Host) -> bool:
    with suppress(httpx.HTTPError):
        # The status code is 200 all the time: what it needs may be away for all machines.
        return httpx.get(f"http://{host.address}:8000/health/ready").json()["status"] == "ok"
    return False
