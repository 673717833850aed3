"""compose.yaml, played: each service as it is written there, on a host of its own.

The images of others are replaced by the same programs from Debian's packages. What docker would
do, this does: fill in the variables, follow depends_on, give the names to the network.
"""

import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
import yaml

from tests.combinations import SITES, name_of
from tests.conftest import Bake
from tests.containers import Built, Container, add_user, container, wait_healthy
from tests.network import Host, network, process
from tests.project import Project
from tests.services import answers, postgresql, wait_until
from tests.site import Site, next_frame, say

pytestmark = pytest.mark.deploy


def values_of(project: Project) -> dict[str, str]:
    """Return what is in the file that compose reads: .env beside compose.yaml.

    With `-f deploy/compose.yaml` that folder is the project for compose, wherever it is called.
    """
    return dict(re.findall(r"^(\w+)=(.*)$", project.read("deploy/.env"), re.M))


def read(project: Project, **values: str) -> dict[str, Any]:
    """Return compose.yaml with its variables filled in, from its .env and then from `values`.

    https://docs.docker.com/reference/compose-file/interpolation/
    """
    known = values_of(project) | values

    def fill(match: re.Match[str]) -> str:
        name, sign, other = match.groups()
        if sign == ":+":
            return other if known.get(name) else ""
        if sign == ":?":
            assert known.get(name), f"{name} {other}"
        return known.get(name) or (other if sign == ":-" else "")

    def filled(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: filled(value) for name, value in part.items()}
        if isinstance(part, list):
            return [filled(value) for value in part]
        if isinstance(part, str):
            part = re.sub(r"\$\{(\w+)(?:(:[-+?])([^}]*))?\}", fill, part)
            assert "$" not in part
        return part

    return filled(yaml.safe_load(project.read("deploy/compose.yaml")))


class Play:
    """The services of a project's compose.yaml, as they run."""

    def __init__(self, built_site: Built, folder: Path) -> None:
        self.project = built_site.project
        self.image = built_site.image
        self.services: dict[str, dict[str, Any]] = read(self.project)["services"]
        self.folder = folder
        self.containers: dict[str, Container] = {}
        self.stack = ExitStack()

    def __enter__(self) -> "Play":
        # Caddy first, which has the first address that is given out.
        names = ["caddy", *(name for name in self.services if name != "caddy")]
        first = self.services["caddy"]["networks"]["front"]["ipv4_address"]
        self.network = self.stack.enter_context(network(*names, first=first))
        try:
            for name in names[1:] + names[:1]:
                self.start(name)
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def start(self, name: str) -> None:
        """Start a service after those it depends on, as far as they have to be."""
        if (self.folder / name).exists():
            return
        (self.folder / name).mkdir(parents=True)
        service = self.services[name]
        host = self.network[name]
        for other, rule in service.get("depends_on", {}).items():
            self.start(other)
            self.wait(other, rule["condition"])
        match service["image"].split(":")[0]:
            case self.project.slug:
                self.start_site(name, service, host)
            case "postgres":
                variables = service["environment"]
                data = self.stack.enter_context(TemporaryDirectory(prefix="tests-postgresql-"))
                self.stack.enter_context(
                    postgresql(
                        Path(data),
                        host,
                        variables["POSTGRES_USER"],
                        variables["POSTGRES_PASSWORD"],
                    )
                )
                assert variables["POSTGRES_DB"] == variables["POSTGRES_USER"]
            case "redis":
                self.stack.enter_context(
                    process(host, *service["command"], "--protected-mode", "no")
                )
            case "caddy":
                [configuration] = [
                    volume.split(":")[0]
                    for volume in service["volumes"]
                    if volume.endswith(":/etc/caddy/Caddyfile:ro")
                ]
                self.caddy = self.stack.enter_context(
                    process(
                        host, "caddy", "run", "--adapter", "caddyfile", "--config",
                        str(self.project.path / "deploy" / configuration),
                        log=self.folder / name / "log",
                        XDG_CONFIG_HOME=str(self.folder / name),
                        XDG_DATA_HOME=str(self.folder / name),
                        **service["environment"],
                    )
                )  # fmt: skip

    def start_site(self, name: str, service: dict[str, Any], host: Host) -> None:
        volumes = {}
        for volume in service.get("volumes", []):
            source, target = volume.split(":")
            data = self.folder / f"volume-{source}"
            if not data.exists():
                # As a new volume is: the folder of the image, with its owner.
                shutil.copytree(self.image.root / target.lstrip("/"), data)
                found = (self.image.root / target.lstrip("/")).stat()
                shutil.chown(data, found.st_uid, found.st_gid)
            volumes[data] = target
        assert service["env_file"] == ".env"
        given = {k: str(v) for k, v in service["environment"].items()}
        variables = values_of(self.project) | given
        started = container(
            self.image, self.folder / name, *service.get("command", []),
            host=host, volumes=volumes, **variables,
        )  # fmt: skip
        self.containers[name] = self.stack.enter_context(started)

    def wait(self, name: str, condition: str) -> None:
        """Wait as docker does for what a service depends on."""
        if condition == "service_completed_successfully":
            assert self.containers[name].process.wait(timeout=60) == 0, self.containers[name].log
        elif name in self.containers:
            assert condition == "service_healthy"
            wait_healthy(self.containers[name])
        else:
            assert condition == "service_healthy"
            kind, *command = self.services[name]["healthcheck"]["test"]
            assert kind == "CMD"
            wait_until(
                lambda: subprocess.run([*self.network[name].enter, *command]).returncode == 0,
                f"{name} is healthy",
            )


def test_site_runs_as_compose_would_run_it(built_site: Built, tmp_path: Path) -> None:
    """With .env as it was generated, on http://localhost, from the first start to the last stop."""
    for folder in (*reversed(tmp_path.parents), tmp_path):
        if folder.stat().st_mode & 0o777 == 0o700:
            folder.chmod(0o711)  # for the users of the containers
    project = built_site.project
    with Play(built_site, tmp_path) as play, play.network["caddy"].entered():
        log = tmp_path / "caddy" / "log"

        def listens() -> bool:
            assert play.caddy.poll() is None, f"{play.caddy.returncode}: {log.read_text()}"
            return answers(80)

        wait_until(listens, "Caddy listens")
        site = Site(project, play.caddy, 80, log, "caddy")
        home = site.get("/")
        assert home.status_code == 200
        assert "Strict-Transport-Security" not in home.headers
        assert site.get("/health/live").status_code == 200

        servers = {name: box for name, box in play.containers.items() if name != "migrate"}
        add_user(next(iter(servers.values())))
        with site.browser("ada") as client:
            assert "Log out ada" in client.get("/").text
        live(site)
        if project.is_(interface="both"):
            assert set(servers) == {"pages", "live"}
            wait_until(lambda: "/async/status/" in servers["live"].log, "the access line")
            assert "/accounts/login/" in servers["pages"].log
            assert "/accounts/login/" not in servers["live"].log
        for name, box in servers.items():
            # Caddy is believed, who says that this was asked for on its own host.
            assert '"client": "127.0.0.1"' in box.log or '"client": "::1"' in box.log, box.log
            grace = int(play.services[name]["stop_grace_period"].removesuffix("s"))
            assert box.stop(grace) == 0


def live(site: Site) -> None:
    """What is live works through the proxy, whatever the site has of it."""
    if site.project.is_(interface="both"):
        assert site.get("/async/status/").status_code == 200
    if site.project.is_(realtime="channels"):
        with site.socket() as one, site.socket() as other:
            say(one, "as compose has it")
            assert next_frame(other, "message")["text"] == "as compose has it"
    if site.project.is_(realtime="sse"):
        headers = {"Cookie": site.cookies_of("ada")}
        with httpx.stream("GET", site.origin + "/events/", headers=headers) as events:
            assert events.headers["Content-Type"].startswith("text/event-stream")
            assert next(events.iter_lines()).startswith(("retry:", ":"))


@pytest.fixture(params=SITES, ids=name_of)
def project(request: pytest.FixtureRequest, bake: Bake) -> Project:
    """A project of its own: what is written into .env here is for one test."""
    return bake(**request.param)


def test_file_is_valid(project: Project) -> None:
    check = Path(sys.executable).with_name("check-jsonschema")

    project.must(
        str(check), "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"
    )  # fmt: skip


def test_services_are_those_of_the_answers(project: Project) -> None:
    servers = {"pages", "live"} if project.is_(interface="both") else {"web"}
    database = {"postgresql"} if project.is_(database="postgresql") else set()
    redis = set() if project.is_(realtime="none") else {"redis"}
    services = read(project)["services"]

    assert set(services) == {"caddy", "migrate", *servers, *database, *redis}
    for name in servers:
        rules = services[name]["depends_on"]
        assert rules["migrate"]["condition"] == "service_completed_successfully"
        assert services["caddy"]["depends_on"][name]["condition"] == "service_healthy"
    # Built once, for all that run it.
    assert [name for name, service in services.items() if "build" in service] == ["migrate"]
    assert {services[name]["image"] for name in servers} == {services["migrate"]["image"]}


def test_only_the_proxy_is_reached_from_outside(project: Project) -> None:
    everything = read(project)
    services = everything["services"]

    assert [name for name, service in services.items() if service.get("ports")] == ["caddy"]
    assert everything["networks"]["back"] == {"internal": True}
    for name in {"postgresql", "redis"} & set(services):
        assert services[name]["networks"] == ["back"]
    # Who is believed is Caddy, at an address that nobody else can be given.
    front, _ = everything["networks"]["front"]["ipam"]["config"]
    assert services["caddy"]["ports"] == ["80:80", "443:443", "443:443/udp"]
    assert services["caddy"]["cap_add"] == ["NET_BIND_SERVICE"]
    caddy = ip_address(services["caddy"]["networks"]["front"]["ipv4_address"])
    assert caddy in ip_network(front["subnet"])
    assert caddy not in ip_network(front["ip_range"])
    for service in services.values():
        if service["image"].startswith(f"{project.slug}:"):
            assert service["environment"]["FORWARDED_ALLOW_IPS"] == str(caddy)


def test_every_service_has_its_bounds(project: Project) -> None:
    services = read(project)["services"]
    for name, service in services.items():
        assert service["mem_limit"], name
        assert service["logging"] == {"driver": "local"}, "else logs fill the disk"
        assert not service.get("read_only") or service["tmpfs"], name
        # Whom it waits for it can reach, if that goes on running.
        for other, rule in service.get("depends_on", {}).items():
            if rule["condition"] == "service_healthy":
                assert set(service["networks"]) & set(services[other]["networks"]), other
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
        if service["image"].startswith(f"{project.slug}:"):
            assert service["read_only"] is True
            assert service["tmpfs"] == ["/tmp"]
        if name not in ("postgresql", "redis"):  # which start as root, and become somebody else
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
    if project.is_(database="postgresql"):
        # Of version 18 on: https://github.com/docker-library/postgres/pull/1259
        assert services["postgresql"]["image"] == "postgres:18"
        assert services["postgresql"]["volumes"] == ["postgresql:/var/lib/postgresql"]
    volumes = set(read(project)["volumes"])
    used = {
        volume.split(":")[0]
        for service in read(project)["services"].values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert used == volumes


def test_a_domain_is_all_that_https_takes(project: Project, toolbox: Project) -> None:
    def started_with(**values: str) -> list[str]:
        servers = read(project, **values)["services"]
        variables = {k: str(v) for k, v in servers["migrate"]["environment"].items()}
        if project.is_(database="sqlite"):
            # The folder of that file is in the container.
            variables.pop("DATABASE_URL")
        said = project.must(
            str(toolbox.bin / "python"), "-c",
            "from config import environment as e; print(e.HTTPS, *e.ALLOWED_HOSTS)",
            **variables,
        )  # fmt: skip
        return [servers["caddy"]["environment"]["SITE_ADDRESS"], *said.split()]

    assert started_with() == ["http://localhost", "False", "localhost"]
    assert "DOMAIN=example.com, www.example.com" in project.read("deploy/.env.example")
    assert started_with(DOMAIN="example.com, www.example.com") == [
        "example.com, www.example.com", "True", "example.com", "www.example.com",
    ]  # fmt: skip


def test_commands_of_the_readme_need_no_other_file(project: Project) -> None:
    """What compose reads is beside compose.yaml, so the commands name that file and no other."""
    text = project.read("deploy/README.md") + project.read("README.md")
    commands = re.findall(r"docker compose (.*)", text)

    assert len(commands) > 5
    assert all(command.startswith("-f deploy/compose.yaml ") for command in commands)
    assert {"DJANGO_SECRET_KEY"} <= set(values_of(project))


def test_password_of_the_database_has_to_be_set(bake: Bake) -> None:
    project = bake(interface="wsgi", database="postgresql")

    with pytest.raises(AssertionError, match=r"POSTGRES_PASSWORD is not set\. Give it"):
        read(project, POSTGRES_PASSWORD="")
