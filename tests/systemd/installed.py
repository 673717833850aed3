"""A machine on which a site was installed."""

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.machine import Machine
from tests.project import Project
from tests.systemd.units import roles_of

# Between them every server, alone and beside the other, on both databases.
MACHINES = [
    {"interface": "wsgi", "realtime": "none", "database": "postgresql"},
    {"interface": "both", "realtime": "channels", "database": "sqlite"},
]
DOMAIN = "site.example.org"


@dataclass
class Installed:
    """A machine on which a site was installed, and what the script said each time."""

    machine: Machine
    checkout: Path
    project: Project
    said: list[str] = field(default_factory=list)

    def install(self, **variables: str) -> subprocess.CompletedProcess[str]:
        # A release is named after the second.
        time.sleep(1)
        return self.machine.run(
            "/srv/checkout/deploy/systemd/install.sh", DOMAIN, UV_OFFLINE="1", **variables
        )

    @property
    def services(self) -> list[str]:
        return [f"{self.project.slug}-{role}.service" for role in roles_of(self.project)]

    @property
    def release(self) -> str:
        return self.machine.must("readlink", f"/opt/{self.project.slug}/current").strip()

    @property
    def releases(self) -> list[str]:
        return self.machine.must("ls", f"/opt/{self.project.slug}/releases").split()

    @property
    def units(self) -> dict[str, str]:
        folder = self.machine.path("/etc/systemd/system")
        return {path.name: path.read_text() for path in folder.glob(f"{self.project.slug}-*")}

    @property
    def environment(self) -> Path:
        return self.machine.path(f"/etc/{self.project.slug}/environment")

    def status(self, path: str, scheme: str = "https") -> int:
        """Return the status of an answer of nginx."""
        port = {"http": 80, "https": 443}[scheme]
        return int(
            subprocess.run(
                self.machine.at_its_network(
                    "curl", "--silent", "--insecure", "--output", "/dev/null", "--max-time", "30",
                    "--write-out", "%{http_code}", "--resolve", f"{DOMAIN}:{port}:127.0.0.1",
                    f"{scheme}://{DOMAIN}{path}",
                ),
                capture_output=True, text=True,
            ).stdout
        )  # fmt: skip

    def manage(self, *arguments: str) -> str:
        """Run manage.py as the README says."""
        slug = self.project.slug
        return self.machine.must(
            "systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--uid={slug}",
            f"--property=EnvironmentFile=/etc/{slug}/environment",
            f"--working-directory=/opt/{slug}/current",
            f"/opt/{slug}/current/.venv/bin/python", "manage.py", *arguments,
        )  # fmt: skip

    def users(self) -> str:
        return self.manage(
            "shell", "-v", "0", "-c",
            "from django.contrib.auth import get_user_model as m; print(m().objects.count())",
        ).strip()  # fmt: skip

    def assert_serves(self) -> None:
        assert self.status("/accounts/login/") == 200
        if self.project.is_(interface="both"):
            assert self.status("/async/status/") == 200
        states = self.machine.must("systemctl", "is-active", *self.services).split()
        assert states == ["active"] * len(self.services)
