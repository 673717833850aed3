"""The files as the proxies themselves judge them."""

from pathlib import Path

import pytest

from tests.combinations import VALID
from tests.conftest import Bake
from tests.network import DOMAIN, own_network
from tests.proxies.commands import program, run
from tests.proxies.front import FILES, PROXIES
from tests.proxies.programs import debian, mounted, proxy_environment

pytestmark = pytest.mark.deploy

COMPOSED, UNCONTAINED = (
    [answers for answers in VALID if answers["deployment"] == deployment]
    for deployment in PROXIES.values()
)


def test_caddy_accepts_its_file_and_would_not_format_it_otherwise(
    bake: Bake, tmp_path: Path
) -> None:
    caddy, environment = program("caddy", "caddy"), proxy_environment(tmp_path)
    for answers in COMPOSED:
        file = bake(**answers).path / FILES["caddy"]
        said = run(caddy, "validate", "--config", file, env=environment)
        assert "Valid configuration" in said
        assert '"level":"warn"' not in said
        assert run(caddy, "fmt", file) == file.read_text()


def test_nginx_accepts_its_file(bake: Bake, tmp_path: Path) -> None:
    for number, answers in enumerate(UNCONTAINED):
        sites = {"site": bake(**answers).read(FILES["nginx"])}
        said = judged_by_nginx(tmp_path / str(number), sites)
        assert "test is successful" in said
        assert "warn" not in said


def test_two_sites_stand_beside_each_other_and_debians_own(bake: Bake, tmp_path: Path) -> None:
    answers = {"interface": "both", "realtime": "sse", "deployment": "systemd"}
    sites = {
        slug: bake(**answers, project_slug=slug).read(FILES["nginx"]).replace(DOMAIN, domain)
        for slug, domain in (("my_site", DOMAIN), ("other_site", "other.example"))
    }
    default = Path("/etc/nginx/sites-available/default")
    if default.exists():
        sites["default"] = default.read_text()

    said = judged_by_nginx(tmp_path / "nginx", sites)

    assert "test is successful" in said
    assert "warn" not in said


def judged_by_nginx(folder: Path, sites: dict[str, str]) -> str:
    folder.mkdir()
    mounts, certificate = debian(folder, sites)
    live = certificate.parent
    (live.parent / "other.example").symlink_to(live.name)
    with own_network() as own, own.inside():
        return run(*mounted(mounts, "nginx -t"))
