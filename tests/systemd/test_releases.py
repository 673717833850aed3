"""Releases after the first; modules of a folder run in the order of their names."""

import json
import re
import subprocess
import sys

import pytest

from tests.systemd.installed import Installed
from tests.systemd.units import LOAD, roles_of

pytestmark = pytest.mark.deploy


def test_new_release_fails_nobody_and_changes_no_data(site: Installed) -> None:
    before = site.environment.read_text(), site.release
    site.manage(
        "shell", "-v", "0", "-c",
        "from django.contrib.auth import get_user_model as m; m().objects.create(username='ada')",
    )  # fmt: skip
    page = site.project.path / site.project.slug / "templates/base.html"
    page.write_text(page.read_text().replace("</body>", "<!-- the new release --></body>"))
    loads = [
        subprocess.Popen(
            site.machine.at_its_network(sys.executable, LOAD, str(port), "GET", "/health/live"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for port in roles_of(site.project).values()
    ]
    run = site.install()
    for load in loads:
        outcomes = json.loads(load.communicate()[0])
        assert set(outcomes) == {"200"}, outcomes
    assert run.returncode == 0, run.stdout
    assert site.environment.read_text() == before[0]
    assert site.users() == "1"
    assert site.release != before[1]
    site.assert_serves()


# By interface: file, what in it is changed to what, and of what the script speaks. One that
# does not answer takes uvicorn half a minute to be sure of; gunicorn says so itself.
BROKEN = {
    "wsgi": [
        ("config/settings.py", "INSTALLED_APPS = [", "INSTALLED_APPS = [[", "is not complete"),
        ("serving/edge.py", "import functools", "import nonsense", "does not answer"),
        ("deploy/systemd/{slug}-web.service", "bin/gunicorn", "bin/nonsense", "does not answer"),
        ("deploy/systemd/nginx.conf", "server {", "serve {", "nginx refuses"),
    ],
    "both": [
        ("uv.lock", "[[package]]", "[[", "is not complete"),
        ("config/settings.py", "DEBUG = environment.DEBUG", "DEBUG = True", "checks or the"),
        ("serving/edge.py", "import functools", "import nonsense", "does not answer"),
        ("deploy/systemd/{slug}-live.service", "User=", "User=not_", "does not answer"),
    ],
}


def test_broken_release_leaves_the_old_one_serving(site: Installed) -> None:
    for file, old, new, sentence in BROKEN[site.project.answers["interface"]]:
        path = site.project.path / file.format(slug=site.project.slug)
        right = path.read_text()
        assert old in right
        before = site.release, site.releases, site.environment.read_text(), site.units
        path.write_text(right.replace(old, new, 1))
        try:
            run = site.install()
        finally:
            path.write_text(right)
        assert run.returncode != 0
        assert sentence in run.stdout, run.stdout
        site.assert_serves()
        site.machine.must("nginx", "-t")
        assert site.environment.read_text() == before[2]
        assert site.units == before[3]
        assert not site.machine.path(f"/opt/{site.project.slug}/next").is_symlink()
        # The site of nginx comes last, when the release serves already.
        assert "nginx" in file or (site.release, site.releases) == before[:2]


def test_going_back_to_the_release_before(site: Installed) -> None:
    older = site.releases[-2]
    folder = f"/opt/{site.project.slug}"
    # Its units are other than those of the newest.
    units = site.machine.path(f"{folder}/releases/{older}/deploy/systemd")
    for path in units.glob("*.service"):
        path.write_text(f"# Of {older}\n{path.read_text()}")
    commands = re.search(
        r"^cd /opt/.*?(?=^```)",
        site.project.read("deploy/README.md"),
        re.M | re.S,
    )[0]
    assert "20260102-030405" in commands
    commands = commands.replace("20260102-030405", older).replace("sudo ", "")
    site.machine.must("bash", "-ec", commands)
    assert site.release == f"releases/{older}"
    loaded = site.machine.must("systemctl", "show", "--property=NeedDaemonReload", *site.services)
    assert set(loaded.split()) == {"NeedDaemonReload=no"}
    assert all(site.units[name].startswith(f"# Of {older}\n") for name in site.services)
    site.assert_serves()
