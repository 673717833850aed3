"""The interface changes on a machine where the site runs, and changes back (docs/switching.md)."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.conftest import Bake
from tests.project import Project
from tests.systemd.installed import DOMAIN, Installed
from tests.systemd.units import LOAD, roles_of

pytestmark = pytest.mark.deploy


def check_out(site: Installed, project: Project) -> None:
    """Put the files of another project into the checkout, which the machine has mounted."""
    folder = site.checkout
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(project.path, folder, dirs_exist_ok=True)
    site.project = Project(folder, project.answers)


def units_of(project: Project) -> set[str]:
    kinds = ("socket", "service")
    servers = {f"{project.slug}-{role}.{kind}" for role in roles_of(project) for kind in kinds}
    return {*servers, f"{project.slug}-migrate.service"}


def test_interface_changes_and_changes_back_and_leaves_no_unit(
    site: Installed, bake: Bake, install: Bake
) -> None:
    """Also when the first release of the new interface does not work."""
    answers = {name: site.project.answers[name] for name in ("interface", "realtime", "database")}
    other = answers | {"interface": "both" if answers["interface"] == "wsgi" else "asgi"}
    old, new = (bake(**one, deployment="systemd") for one in (answers, other))
    for project, one in ((old, answers), (new, other)):
        shutil.copy(install(**one).path / "uv.lock", project.path)
    # Such as a worker of the owner's, which is no server of the template.
    others = site.units.keys() - units_of(old)
    edge = new.path / "serving" / "edge.py"
    right = edge.read_text()
    load = subprocess.Popen(
        site.machine.at_its_network(sys.executable, LOAD, "443", "GET", "/health/live", DOMAIN),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    edge.write_text(right.replace("import functools", "import nonsense"))
    check_out(site, new)
    failed = site.install()
    site.project = Project(site.checkout, old.answers)
    assert failed.returncode != 0
    assert "serves again" in failed.stdout, failed.stdout
    site.assert_serves()
    assert site.units.keys() - others == units_of(old)

    edge.write_text(right)
    for project in (new, old):
        check_out(site, project)
        run = site.install()
        assert run.returncode == 0, run.stdout
        site.assert_serves()
        assert site.units.keys() - others == units_of(project)
        assert (
            site.machine.must(
                "systemctl",
                "list-units",
                "--failed",
                "--plain",
                "--no-legend",
                *sorted(units_of(project)),
            )
            == ""
        )

    outcomes = json.loads(load.communicate()[0])
    assert set(outcomes) == {"200"}, outcomes
