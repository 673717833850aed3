"""The script, and what it says."""

import re
from pathlib import Path

import pytest

from tests.conftest import Bake
from tests.machine import machine
from tests.systemd.installed import DOMAIN, Installed

pytestmark = pytest.mark.deploy


def test_script_says_what_is_missing_and_goes_on_the_next_time(site: Installed) -> None:
    slug = site.project.slug
    assert "Run 'uv lock'" in site.said[0]
    if site.project.is_(database="postgresql"):
        assert f"Fill in DATABASE_URL in /etc/{slug}/environment" in site.said[1]
    assert f"There is no certificate in /etc/letsencrypt/live/{DOMAIN}" in site.said[-2]
    assert "certbot certonly --webroot -w /var/www/letsencrypt" in site.said[-2]
    assert re.search(
        rf"https://{re.escape(DOMAIN)} serves release \d{{8}}-\d{{6}}\.\n$", site.said[-1]
    )
    for said in site.said:
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Which domain?"),
        (("https://example.com",), "is not a domain"),
        (("Example.com",), "is not a"),
    ],
)
def test_script_wants_one_domain(arguments: tuple[str, ...], sentence: str, bake: Bake) -> None:
    run = bake(deployment="systemd").run("deploy/systemd/install.sh", *arguments)
    assert run.returncode == 1
    assert sentence in run.stdout


def test_domain_has_to_be_named_in_full(site: Installed) -> None:
    right = site.environment.read_text()
    for hosts in (f"my{DOMAIN}", f"{DOMAIN}.net,www.{DOMAIN}", ""):
        site.environment.write_text(right.replace(f"_HOSTS={DOMAIN}\n", f"_HOSTS={hosts}\n"))
        try:
            run = site.install()
        finally:
            site.environment.write_text(right)
        assert run.returncode == 1
        assert f"does not name {DOMAIN}." in run.stdout


def test_two_runs_at_once_are_one_too_many(site: Installed) -> None:
    run = site.machine.run(
        "flock", f"/run/{site.project.slug}-install.lock",
        "/srv/checkout/deploy/systemd/install.sh", DOMAIN,
    )  # fmt: skip
    assert run.returncode == 1
    assert "Another run of this script is active." in run.stdout


def test_name_of_another_program_is_not_taken_over(bake: Bake, tmp_path: Path) -> None:
    project = bake(project_name="Nginx Two", project_slug="alternatives", deployment="systemd")
    (project.path / "uv.lock").touch()
    with machine(tmp_path, {project.path: "/srv/checkout"}) as running:
        run = running.run("/srv/checkout/deploy/systemd/install.sh", DOMAIN)
        assert run.returncode == 1
        assert "/etc/alternatives exists already" in run.stdout
        assert not running.path("/opt/alternatives").exists()
