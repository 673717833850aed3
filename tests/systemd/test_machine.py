"""The machine once it serves, and what its servers may do."""

import re
import stat

import pytest

from tests.background import PAGE, named, unit_of_the_page
from tests.services import wait_until
from tests.systemd.installed import DOMAIN, Installed

pytestmark = pytest.mark.deploy


def test_it_serves_behind_nginx_and_after_a_reboot(site: Installed) -> None:
    site.assert_serves()
    assert site.status("/", "http") == 301
    # Only nginx asks it.
    assert site.status("/health/ready") == 404
    units = [*site.services, *(name.replace("service", "socket") for name in site.services)]
    assert set(site.machine.must("systemctl", "is-enabled", *units).split()) == {"enabled"}


def test_secret_is_private_and_code_is_nobodys_to_change(site: Installed) -> None:
    slug = site.project.slug
    text = site.environment.read_text()
    assert re.search(r"^DJANGO_SECRET_KEY=\S{60,}$", text, re.M)
    assert f"DJANGO_ALLOWED_HOSTS={DOMAIN}\n" in text
    for path, mode in ((site.environment, 0o600), (site.environment.parent, 0o700)):
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert path.stat().st_uid == 0
    places = [f"/opt/{slug}", f"/etc/systemd/system/{slug}-migrate.service"]
    for place in (*places, *(f"/etc/systemd/system/{name}" for name in site.services)):
        path = site.machine.path(place)
        for each in (path, *path.rglob("*")):
            found = each.lstat()
            assert (found.st_uid, found.st_gid) == (0, 0), each
            assert each.is_symlink() or not found.st_mode & 0o022, each
            # The site's user can read it.
            assert found.st_mode & 0o004, each
    release = site.machine.path(f"/opt/{slug}/{site.release}")
    assert {path.name for path in release.iterdir()} == {
        ".python-version", ".venv", "config", "deploy", "manage.py", "pyproject.toml",
        "serving", "staticfiles", "uv.lock", slug,
    }  # fmt: skip
    assert not (release / "serving" / "tests").exists()
    # Compiled, as it cannot be later.
    assert list(release.glob("config/__pycache__/settings.*.pyc"))
    assert list(release.glob("serving/__pycache__/edge.*.pyc"))
    assert list(release.glob(".venv/lib/python3.*/site-packages/django/__pycache__/*.pyc"))
    assert not list(release.glob(".venv/bin/pytest"))
    state = site.machine.path(f"/var/lib/{slug}")
    assert stat.S_IMODE(state.stat().st_mode) == 0o711
    for each in state.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each


def test_servers_are_confined(site: Installed) -> None:
    for name in site.services:
        pid = site.machine.must("systemctl", "show", "--property=MainPID", "--value", name).strip()
        status = site.machine.must("cat", f"/proc/{pid}/status")
        assert re.search(r"^NoNewPrivs:\t1$", status, re.M)
        assert re.search(r"^Seccomp:\t2$", status, re.M)
        assert set(re.findall(r"^Cap\w+:\t(\w+)$", status, re.M)) == {"0" * 16}
        assert not re.search(r"^Uid:.*\b0\b", status, re.M)
        # Even root, in its view of the machine, writes nowhere but to its own folders.
        for folder, writable in (
            ("/opt", False), ("/etc", False), ("/var/tmp", True), ("/tmp", True), ("/srv", False),
            (f"/var/lib/{site.project.slug}", True), ("/var/log", False),
        ):  # fmt: skip
            run = site.machine.run(
                "nsenter", f"--target={pid}", "--mount", "--root", "touch", f"{folder}/from-within"
            )
            assert (run.returncode == 0) == writable, f"{folder}: {run.stdout}"
        assert not site.machine.path("/var/tmp/from-within").exists()
        limit = site.machine.must("cat", f"/proc/{pid}/limits")
        assert int(re.search(r"^Max open files +(\d+)", limit, re.M)[1]) > 10_000
        # Not a warning of what they would have liked to do.
        log = site.machine.must("journalctl", "--unit", name, "--output=cat", "--no-pager")
        assert not re.search(r'Traceback|Permission|not permitted|"level": "(warning|error)"', log)


# In place of a worker whose task goes on, although a new version has come.
BUSY = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    'print("busy", flush=True); time.sleep(600)'
)


def test_worker_of_the_documents_restarts_with_the_pages(site: Installed) -> None:
    """And the pages do not wait for its task."""
    machine, page_server = site.machine, site.services[0]
    path = unit_of_the_page(site.project)
    name = path.name
    there = machine.path(f"/etc/systemd/system/{name}")
    there.write_text(path.read_text().replace("manage.py db_worker", f"-c '{BUSY}'"))
    path.unlink()
    (start,) = re.findall(r"`sudo (systemctl enable --now .*?)`", PAGE)

    def shown(value: str) -> str:
        return machine.must("systemctl", "show", f"--property={value}", "--value", name).strip()

    machine.must("systemctl", "daemon-reload")
    try:
        machine.must(*named(start, site.project).split())
        wait_until(
            lambda: "busy" in machine.must("journalctl", f"--unit={name}", "--output=cat"),
            "the worker runs",
        )
        first = shown("MainPID")
        machine.must("systemctl", "restart", page_server)
        site.assert_serves()
        assert (shown("ActiveState"), shown("MainPID")) == ("deactivating", first)
        machine.must("systemctl", "kill", "--signal=KILL", name)
        wait_until(lambda: shown("ActiveState") == "active", "the worker of the new version runs")
        assert shown("MainPID") != first
    finally:
        machine.run("systemctl", "disable", name)
        # It would not end by itself, and stopped it is not started again.
        machine.run("systemctl", "stop", "--no-block", name)
        machine.run("systemctl", "kill", "--signal=KILL", name)
        there.unlink()
        machine.must("systemctl", "daemon-reload")
