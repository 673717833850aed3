"""Starts that end early, and the one that every site has first: https only."""

import time
from pathlib import Path

import pytest

from tests.combinations import CHOICES
from tests.conftest import Prepare
from tests.house import variables_of
from tests.site import COMMANDS, STARTS, running, wait_for_exit

pytestmark = pytest.mark.serve


def test_second_signal_does_not_hold_up_the_first(prepared: Prepare, tmp_path: Path) -> None:
    answers = {"interface": "both", "realtime": "none", "database": "sqlite"}
    project, variables = prepared(answers)
    with running(project, COMMANDS["no-proxy"], tmp_path / "log", "no-proxy", **variables) as site:
        site.note_family()
        for _ in range(20):
            site.process.terminate()
            time.sleep(0.02)
        site.process.wait(timeout=15)
        wait_for_exit([*site.family])


def test_serve_leaves_nothing_behind_when_a_part_of_it_is_killed(
    prepared: Prepare, tmp_path: Path
) -> None:
    answers = {"interface": "both", "realtime": "none", "database": "sqlite"}
    project, variables = prepared(answers)
    for part in ("gunicorn", "config.uvicorn_conf"):
        with running(project, COMMANDS["no-proxy"], tmp_path / part, "x", **variables) as site:
            [victim] = [
                process
                for process in site.note_family()
                if any(word.endswith(part) for word in process.cmdline())
                and not any(word.endswith(part) for word in process.parent().cmdline())
            ]
            victim.kill()
            assert site.process.wait(timeout=15) != 0
            assert "has ended, so all were stopped." in site.log
            wait_for_exit([*site.family])


@pytest.mark.parametrize("start", ["caddy", "no-proxy"])
def test_serve_that_is_killed_leaves_nothing_on_its_ports(
    start: str, prepared: Prepare, tmp_path: Path
) -> None:
    """By SIGKILL, as the kernel does when memory runs out: it can stop nobody itself."""
    answers = {"interface": "both", "realtime": "none", "database": "sqlite"}
    project, variables = prepared(answers)
    variables = variables_of(project, start, tmp_path, variables)
    with running(project, COMMANDS[start], tmp_path / "log", start, **variables) as site:
        [first] = [
            process
            for process in site.note_family()
            if process.cmdline()[1:] == ["-m", "config.serve"]
        ]
        programs = {Path(process.cmdline()[0]).name for process in site.note_family()}
        assert ("caddy" in programs) == (start == "caddy")
        first.kill()
        wait_for_exit([*site.family], 25)
    # The same ports again.
    with running(
        project, COMMANDS[start], tmp_path / "log", start, site.port, **variables
    ) as again:
        assert again.get("/health/live").status_code == 200


@pytest.mark.parametrize("interface", CHOICES["interface"])
def test_production_is_https_only(interface: str, prepared: Prepare, tmp_path: Path) -> None:
    """Without DJANGO_HTTPS=false, which the other tests set; they are the proxy here."""
    answers = {"interface": interface, "realtime": "none", "database": "sqlite"}
    project, variables = prepared(answers)
    variables = {name: value for name, value in variables.items() if name != "DJANGO_HTTPS"}

    for start in set(STARTS[interface]) & {"gunicorn", "uvicorn"}:
        with running(project, COMMANDS[start], tmp_path / "log", start, **variables) as site:
            plain = site.get("/accounts/login/?next=/x")
            assert plain.status_code == 301
            assert plain.headers["Location"] == site.origin.replace("http:", "https:") + (
                "/accounts/login/?next=/x"
            )
            assert site.get("/health/ready").status_code == 200

            secure = site.get("/accounts/login/", headers={"X-Forwarded-Proto": "https"})
            assert secure.status_code == 200
            assert "max-age=31536000" in secure.headers["Strict-Transport-Security"]
            assert "; Secure" in secure.headers["Set-Cookie"]
