"""The units as systemd reads them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Bake
from tests.project import Project
from tests.systemd.units import roles_of, unit

pytestmark = pytest.mark.deploy


def test_systemd_understands_every_line(emitted: Project, tmp_path: Path) -> None:
    for path in (emitted.path / "deploy/systemd").glob(f"{emitted.slug}-*"):
        # Its programs have to exist.
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", path.read_text(), flags=re.M)
        (tmp_path / path.name).write_text(text)
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.glob("*"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout
    # Older ones do without, which the unit says.
    newer = r".*Unknown key (name )?'Restart(Steps|MaxDelaySec)' in section \[?'?Service.*\n"
    assert not re.sub(newer, "", said)


# Of https://www.freedesktop.org/software/systemd/man/latest/systemd-analyze.html: 5 is "medium".
MOST_EXPOSED = 2.5


def test_a_taken_over_server_can_do_little(emitted: Project) -> None:
    services = [*roles_of(emitted), "migrate"]
    for name in services:
        path = emitted.path / f"deploy/systemd/{emitted.slug}-{name}.service"
        said = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
            capture_output=True,
            text=True,
        ).stdout
        exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])
        assert exposure < MOST_EXPOSED, said
    units = [unit(emitted, f"{name}.service") for name in services]
    # The same user and the same confines: what one may not do it cannot have done by another.
    for key in ("User", "ProtectSystem", "CapabilityBoundingSet", "SystemCallFilter",
                "RestrictAddressFamilies", "StateDirectory", "EnvironmentFile"):  # fmt: skip
        assert units[0][key], key
        assert all(other[key] == units[0][key] for other in units), key


def test_every_place_names_the_same_things(emitted: Project) -> None:
    slug, roles = emitted.slug, roles_of(emitted)
    script = emitted.read("deploy/systemd/install.sh")
    files = {path.name for path in (emitted.path / "deploy/systemd").iterdir()}
    kinds = {f"{slug}-{role}.{kind}" for role in roles for kind in ("socket", "service")}
    assert files == kinds | {f"{slug}-migrate.service", "environment", "install.sh", "nginx.conf"}
    nginx = emitted.read("deploy/systemd/nginx.conf")
    assert set(re.findall(r"server 127\.0\.0\.1:(\d+);", nginx)) == {
        str(port) for port in roles.values()
    }
    assert "root /var/www/letsencrypt;" in nginx
    assert "/etc/letsencrypt/live/example.com/" in nginx
    assert f"site={slug}\n" in script
    [user] = unit(emitted, "migrate.service")["User"]
    assert f"user={user}\n" in script
    assert slug.startswith(user)
    assert len(user) < 32
    [folder] = unit(emitted, "migrate.service")["StateDirectory"]
    environment = emitted.read("deploy/systemd/environment")
    if emitted.is_(database="sqlite"):
        assert f"DATABASE_URL=sqlite:////var/lib/{folder}/db.sqlite3\n" in environment
    # Every variable is one that the site reads.
    assert set(re.findall(r"^(?:# )?([A-Z_]+)=", environment, re.M)) <= set(
        re.findall(r'env\.\w+\(\s*"(\w+)"', emitted.read("config/environment.py"))
    )
    for role, port in roles.items():
        assert unit(emitted, f"{role}.socket")["ListenStream"] == [f"127.0.0.1:{port}"]
        service = unit(emitted, f"{role}.service")
        assert service["Requires"] == [f"{slug}-{role}.socket"]
        gunicorn = "gunicorn" in service["ExecStart"][0]
        assert gunicorn == (role == "pages" or emitted.is_(interface="wsgi"))
        graceful = (
            re.search(r"^graceful_timeout = (\d+)$", emitted.read("config/gunicorn.conf.py"), re.M)
            if gunicorn
            else re.search(
                r'"timeout_graceful_shutdown": (\d+),', emitted.read("config/uvicorn_conf.py")
            )
        )
        assert int(graceful[1]) == 20
        assert service["TimeoutStopSec"] == ["30"]


def test_install_script_is_clean(emitted: Project) -> None:
    script = emitted.path / "deploy/systemd/install.sh"
    assert script.stat().st_mode & 0o111
    emitted.must(str(Path(sys.executable).with_name("shellcheck")), str(script))


def test_long_names_have_a_user_that_linux_allows(bake: Bake) -> None:
    project = bake(project_slug="a" * 40, deployment="systemd")
    assert unit(project, "web.service")["User"] == ["a" * 31]
