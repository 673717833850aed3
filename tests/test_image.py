"""The image: built from the Dockerfile as it is, and run as an engine would run it.

Its root is read-only and its user has no rights, as in every place that it is deployed to.
"""

import json
import os
import re
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.combinations import SITES, TEMPLATE, Answers, name_of
from tests.conftest import Bake, Prepare
from tests.containers import Built, Container, buildah, built, container, wait_healthy
from tests.services import free_port
from tests.site import probes_of

pytestmark = pytest.mark.deploy

# Bytes that its files may take beyond those of the image it starts from.
BUDGET = 110_000_000


@pytest.fixture
def volumes(built_site: Built, tmp_path: Path) -> dict[Path, str]:
    """The volumes of its containers: the tests' views, and where SQLite's file is."""
    found = {probes_of(built_site.project): "/mnt"}
    # The container's user passes through, to what belongs to it.
    for folder in (*reversed(tmp_path.parents), tmp_path, *found):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    if built_site.project.is_(database="sqlite"):
        data = tmp_path / "data"
        data.mkdir()
        os.chown(data, 10001, 10001)
        found[data] = "/data"
    return found


def test_it_holds_what_is_needed_and_no_more(built_site: Built) -> None:
    here = built_site.image.root / "srv" / "site"
    assert {path.name for path in here.iterdir()} == {
        "config", "manage.py", "pyproject.toml", "serving", "staticfiles", "uv.lock",
        built_site.project.slug,
    }  # fmt: skip
    assert not (here / "serving" / "tests").exists()
    # Installed, but not for development; no tool to install or compile with.
    for absent in ("pytest", "ruff", "mypy", "daphne", "uv", "just"):
        assert not (built_site.image.root / "srv/venv/bin" / absent).exists()
    for folder in ("usr/bin", "usr/local/bin", "opt", "root/.local/bin"):
        found = built_site.image.root / folder
        names = {path.name for path in found.iterdir()} if found.is_dir() else set()
        assert not names & {"uv", "uvx", "gcc", "cc", "make"}
    # Compiled already, as nothing can be written there later.
    own = f"{built_site.project.slug}/users/models.py"
    for module in ("config/settings.py", "serving/edge.py", own):
        folder = (here / module).parent / "__pycache__"
        assert list(folder.glob(f"{Path(module).stem}.*.pyc"))
    assert (here / "staticfiles" / "staticfiles.json").exists()
    assert list(here.glob("staticfiles/**/*.css.gz"))
    size = built_site.image.size()
    assert size < BUDGET, f"{size / 1e6:.0f} MB beyond its base"


def test_nobody_can_change_what_it_runs(built_site: Built) -> None:
    user, group = built_site.image.configuration["User"].split(":")
    assert (user, group) == ("10001", "10001")
    for path in (built_site.image.root / "srv").rglob("*"):
        found = path.lstat()
        assert found.st_uid == found.st_gid == 0, path
        assert path.is_symlink() or not found.st_mode & 0o022, path


def test_command_is_that_of_its_server(built_site: Built) -> None:
    assert built_site.image.configuration["Cmd"] == list(built_site.servers.values())[-1]
    assert not built_site.image.configuration.get("Entrypoint")
    assert list(built_site.image.configuration["ExposedPorts"]) == ["8000/tcp"]


def test_every_server_runs_with_its_root_read_only(
    built_site: Built, volumes: dict[Path, str], tmp_path: Path
) -> None:
    """From the release to the end: migrated, healthy, under load, and drained."""
    with container(
        built_site.image, tmp_path / "migrate", "python", "manage.py", "migrate", "--no-input",
        volumes=volumes, **built_site.variables,
    ) as migrate:  # fmt: skip
        assert migrate.process.wait(timeout=60) == 0, migrate.log
        assert "No migrations to apply" in migrate.log or "OK" in migrate.log

    with ExitStack() as stack:
        running: dict[str, tuple[Container, str]] = {}
        own = built_site.image.configuration["Cmd"]
        for name, command in built_site.servers.items():
            port = free_port()
            started = container(
                built_site.image, tmp_path / name, *([] if command == own else command),
                volumes=volumes, PORT=str(port), **built_site.variables,
            )  # fmt: skip
            running[name] = stack.enter_context(started), f"http://localhost:{port}"
        for serving, _ in running.values():
            wait_healthy(serving)
        for serving, origin in running.values():
            stays_what_it_is(serving)
            serves(serving, origin)
            drains(serving, origin)


def stays_what_it_is(serving: Container) -> None:
    """Its user has no rights, and only /tmp can be written to."""
    status = serving.run("cat", "/proc/self/status").stdout
    assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.M)
    assert set(re.findall(r"^Cap\w+:\t(\w+)$", status, re.M)) == {"0" * 16}
    for folder in ("/", "/srv/site", "/srv/venv", "/var/tmp"):
        attempt = serving.run("touch", f"{folder}/file")
        assert attempt.returncode != 0
        assert "Read-only" in attempt.stdout or "Permission denied" in attempt.stdout
    assert serving.run("touch", "/tmp/file").returncode == 0


def serves(serving: Container, origin: str) -> None:
    """Pages, uploads beyond what stays in memory, and all of it within the limit of memory."""
    home = httpx.get(origin, timeout=20)
    assert home.status_code == 200
    [style] = re.findall(r'href="(/static/site\.\w+\.css)"', home.text)
    assert httpx.get(origin + style).headers["Content-Encoding"] == "gzip"
    assert httpx.get(f"{origin}/health/ready").status_code == 200

    pages = ["/", "/accounts/login/", "/admin/login/", "/probe/query/"] * 5

    def visit(number: int) -> set[int]:
        with httpx.Client(base_url=origin, timeout=30) as client:
            return {client.get(page).status_code for page in pages}

    with ThreadPoolExecutor(8) as pool:
        visits = [pool.submit(visit, number) for number in range(16)]
        most = 0
        while not all(done.done() for done in visits):
            most = max(most, serving.memory())
            time.sleep(0.2)
        assert set().union(*(done.result() for done in visits)) == {200}
    upload = httpx.post(f"{origin}/probe/upload/", content=b"x" * 5_000_000, timeout=30)
    assert upload.json()["bytes"] == 5_000_000
    most = max(most, serving.memory())
    assert most < memory_limit(), f"{most / 1e6:.0f} MB"


def memory_limit() -> int:
    """Return the bytes that compose.yaml lets a server have."""
    text = next(TEMPLATE.glob("{{*/deploy/*compose.yaml*")).read_text()
    return int(re.search(r"^  mem_limit: (\d+)m$", text, re.M)[1]) * 2**20


def drains(serving: Container, origin: str) -> None:
    """A request under way is answered after SIGTERM, and all ends with status 0."""
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(httpx.get, f"{origin}/probe/slow/", timeout=20)
        time.sleep(1)  # it takes three
        status = serving.stop()
        assert under_way.result().json() == {"slept": 3}
    assert status == 0, serving.log[-2000:]
    wrong = [
        line
        for line in serving.log.splitlines()
        if re.search(r'Traceback|Error\b|"level": ?"(warning|error|critical)"', line)
    ]
    assert not wrong, wrong


def test_no_secret_is_in_any_layer(prepared: Prepare, tmp_path: Path) -> None:
    answers = {"interface": "both", "realtime": "channels", "database": "postgresql"}
    project, _ = prepared(answers)
    secrets = re.findall(
        r"^\w+=(\S{50,})$", project.read(".env") + project.read("deploy/.env"), re.M
    )
    assert len(secrets) == 3
    with built(project) as image:
        assert not any(secret in json.dumps(image.layers) for secret in secrets)
        buildah("push", image.name, f"docker-archive:{tmp_path}/image.tar:{image.name}")
    found = 0
    with tarfile.open(tmp_path / "image.tar") as archive:
        for layer in archive:
            content = archive.extractfile(layer)
            if content is None or not layer.name.endswith(".tar"):
                continue
            with tarfile.open(fileobj=content) as files:
                for file in files:
                    assert Path(file.name).name not in {".env", "db.sqlite3"}
                    if file.isfile() and file.name.startswith("srv/site"):
                        found += 1
                        text = files.extractfile(file).read()
                        assert not any(secret.encode() in text for secret in secrets), file.name
    assert found > 100


def test_without_a_lock_file_uv_says_what_to_do(bake: Bake) -> None:
    with pytest.raises(AssertionError, match="uv lock"), built(bake(interface="wsgi")):
        pass


@pytest.mark.parametrize("answers", SITES, ids=name_of)
def test_dockerfile_is_clean(answers: Answers, bake: Bake) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")

    bake(**answers).must(str(hadolint), "Dockerfile")
