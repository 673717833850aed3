"""Container images without a container engine: built by buildah, run in namespaces.

The Dockerfile is built as it is. What it starts from is made of Debian's packages, as no
registry has to be there: the same distribution and the same Python as python:3.13-slim-trixie.
"""

import fcntl
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from tests.network import Host
from tests.project import Project
from tests.services import missing, wait_until
from tests.site import COMMANDS

BASE = "localhost/python:3.13-slim-trixie"
# Kept between runs: making the base takes half a minute.
CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cookiecutter-django-gateway"
)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

# $1 root, $2 file with the mounts "source target" of volumes, then the command.
SET_UP = """
set -e
root=$1; volumes=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/dev/shm"
while read -r source target; do mount --bind "$source" "$root/$target"; done < "$volumes"
exec "$@"
"""


def require() -> None:
    """Skip the test if images cannot be built here; CI has to be able to."""
    for program in ("buildah", "mmdebstrap"):
        if not shutil.which(program):
            missing(program, "buildah mmdebstrap")
    if os.geteuid() != 0:
        missing("root, who may make namespaces,", "sudo, and run the tests with it")


@functools.cache
def storage() -> Path:
    """Return the configuration of a storage for images that no other process uses.

    Two builds in one storage at a time can take each other's mounts away.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        lock = (CACHE / f"images-{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        HELD.append(lock)  # until this process ends
        configuration = CACHE / f"images-{number}.conf"
        configuration.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{CACHE}/images-{number}"\n'
            f'runroot = "/run/cookiecutter-django-gateway-{number}"\n'
        )
        return configuration
    raise AssertionError


HELD: list[IO[str]] = []


def buildah(*arguments: str | Path) -> str:
    """Run buildah on the storage of this process and return its output."""
    run = subprocess.run(
        ["buildah", *map(str, arguments)],
        env=os.environ | {"CONTAINERS_STORAGE_CONF": str(storage()), "BUILDAH_ISOLATION": "chroot"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert run.returncode == 0, f"buildah {arguments[0]}:\n{run.stdout[-3000:]}{run.stderr[-3000:]}"
    return run.stdout.strip()


def base_files() -> Path:
    """Return the archive of the files that the base has, made once."""
    archive = CACHE / "base.tar"
    with (CACHE / "base.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            subprocess.run(
                [
                    "mmdebstrap", "--quiet", "--variant=minbase",
                    "--include=python3,python3-venv,python3-pip,ca-certificates,netbase,tzdata",
                    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*"
                      for name in ("doc", "man", "locale")),
                    # Where the official image has its Python.
                    '--customize-hook=ln -s /usr/bin/python3 "$1/usr/local/bin/python"',
                    '--customize-hook=ln -s /usr/bin/python3 "$1/usr/local/bin/python3.13"',
                    "trixie", f"{archive}.new",
                ],
                check=True,
            )  # fmt: skip
            Path(f"{archive}.new").rename(archive)
    return archive


@functools.cache
def make_base() -> None:
    """Make the image that Dockerfiles start from, unless it is there."""
    require()
    there = BASE in buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()
    if there and f"SSL_CERT_FILE={CERTIFICATES}" in buildah("inspect", "--type", "image", BASE):
        return
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, base_files(), "/")
    buildah(
        "config", "--cmd", "python3", "--env", "LANG=C.UTF-8",
        "--env", "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
        # The certificates of this machine, which may be behind a proxy, are mounted there. uv
        # looks at no others than its own unless it is told to.
        "--env", f"SSL_CERT_FILE={CERTIFICATES}",
        container,
    )  # fmt: skip
    buildah("commit", "--quiet", "--rm", container, BASE)


@dataclass(frozen=True)
class Image:
    """A built image, with its file system mounted at `root`."""

    name: str
    root: Path
    configuration: dict[str, Any]

    @property
    def layers(self) -> list[dict[str, Any]]:
        """What each step of the Dockerfile did, oldest first."""
        return json.loads(buildah("inspect", "--type", "image", self.name))["OCIv1"]["history"]

    def size(self) -> int:
        """Return the bytes that its files take beyond those of the base."""
        return disk_usage(self.root) - base_size()


def disk_usage(folder: Path) -> int:
    output = subprocess.run(
        ["du", "--summarize", "--bytes", "--one-file-system", folder],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return int(output.split()[0])


@functools.cache
def base_size() -> int:
    """Return the bytes that the files of the base take."""
    with mounted(BASE) as root:
        return disk_usage(root)


@contextmanager
def mounted(name: str) -> Iterator[Path]:
    """Mount an image's file system; what is written there goes with it."""
    container = buildah("from", "--pull-never", name)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)


# Of the images that this process builds.
NUMBERS = itertools.count(1)


@contextmanager
def built(project: Project) -> Iterator[Image]:
    """Build the project's Dockerfile, unmodified; the image is gone afterwards."""
    make_base()
    # Not of the project: another test may have built that too, and remove it first.
    name = f"localhost/test-{os.getpid()}-{next(NUMBERS)}"
    certificates = (
        ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.exists() else []
    )
    buildah(
        # Layers kept for the next time would pile up: each combination has its own.
        "build", "--format", "docker", "--layers=false", "--pull-never", "--network", "host",
        *certificates, "--tag", name, project.path,
    )  # fmt: skip
    try:
        with mounted(name) as root:
            inspected = json.loads(buildah("inspect", "--type", "image", name))
            yield Image(name, root, inspected["Docker"]["config"])
    finally:
        buildah("rmi", "--force", name)


class Container:
    """A container that runs."""

    def __init__(self, image: Image, process: subprocess.Popen[bytes], log: Path) -> None:
        self.image = image
        self.process = process
        self.log_file = log

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def first(self) -> psutil.Process:
        """Its process 1."""
        [unshare] = [
            process
            for process in psutil.Process(self.process.pid).children(recursive=True)
            if process.name() == "unshare"
        ] or [psutil.Process(self.process.pid)]
        [first] = unshare.children()
        return first

    def processes(self) -> list[psutil.Process]:
        return [self.first, *self.first.children(recursive=True)]

    def memory(self) -> int:
        """Return the bytes that its processes take, shared ones once."""
        return sum(process.memory_full_info().pss for process in self.processes())

    def healthy(self) -> bool:
        """Run the image's own HEALTHCHECK inside."""
        kind, *command = self.image.configuration["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.run(*command).returncode == 0

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as `docker exec` does."""
        enter = ["nsenter", "--target", str(self.first.pid), "--mount", "--pid", "--net", "--uts",
                 "--ipc"]  # fmt: skip
        variables = (Path("/proc") / str(self.first.pid) / "environ").read_text().split("\0")
        return subprocess.run(
            [*enter, *inside(self.image, [v for v in variables if v], command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        )

    def stop(self, seconds: float = 30) -> int:
        """Send SIGTERM to process 1, as an engine does, and return the exit status."""
        self.first.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Kill it at once, as when its machine is gone."""
        with suppress(psutil.NoSuchProcess):
            # Its process 1 takes all others along.
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


def inside(image: Image, variables: Sequence[str], command: Sequence[str]) -> list[str]:
    """Return what runs `command` in the image's root as its user, without capabilities."""
    user, group = image.configuration["User"].split(":")
    folder = image.configuration.get("WorkingDir") or "/"
    return [
        "chroot", str(image.root),
        "setpriv", "--pdeathsig=KILL", f"--reuid={user}", f"--regid={group}",
        "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all",
        "env", "--ignore-environment", f"--chdir={folder}", *variables, *command,
    ]  # fmt: skip


@contextmanager
def container(
    image: Image,
    folder: Path,
    *command: str,
    host: Host | None = None,
    volumes: dict[Path, str] | None = None,
    **variables: str,
) -> Iterator[Container]:
    """Run `image` with its own command or another: read-only, as its own user.

    Its log and the list of its volumes (folder here: folder inside) go into `folder`. With
    `host` it is on that host, else on this one's network.
    """
    folder.mkdir(exist_ok=True)
    log, mounts = folder / "log", folder / "volumes"
    lines = {str(source): target for source, target in (volumes or {}).items()}
    if host:
        lines[str(host.names)] = "/etc/hosts"
    mounts.write_text("".join(f"{source} {target}\n" for source, target in lines.items()))
    everything = image.configuration["Env"] + [f"{k}={v}" for k, v in variables.items()]
    # That is of the build on this machine.
    everything = [v for v in everything if not v.startswith("SSL_CERT_FILE=")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(host.enter if host else []),
                # Gone with this process, whatever becomes of it.
                "setpriv", "--pdeathsig=KILL",
                "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL",
                "sh", "-c", SET_UP, "sh", str(image.root), str(mounts),
                *inside(image, everything, command or image.configuration["Cmd"]),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    running = Container(image, process, log)
    try:
        yield running
    finally:
        running.kill()


def wait_healthy(running: Container, seconds: float = 60) -> None:
    """Wait until the HEALTHCHECK is satisfied, or fail with the log."""

    def look() -> bool:
        assert running.process.poll() is None, f"it ended:\n{running.log}"
        try:
            return running.healthy()
        except (ValueError, psutil.NoSuchProcess, FileNotFoundError):
            return False  # process 1 is not there yet

    wait_until(look, "the container is healthy", seconds, pause=0.3)


def add_user(box: Container) -> None:
    """Let ada log in."""
    run = box.run(
        "env", "DJANGO_SUPERUSER_PASSWORD=password-of-ada", "python", "manage.py",
        "createsuperuser", "--no-input", "--username=ada", "--email=ada@example.com",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout


@dataclass(frozen=True)
class Built:
    """The image of a combination, and the environment in which it is run."""

    project: Project
    image: Image
    variables: dict[str, str]

    @property
    def servers(self) -> dict[str, list[str]]:
        """The commands of its servers, by their names; the image's own is the last one."""
        interface = self.project.answers["interface"]
        names = {"wsgi": ["gunicorn"], "asgi": ["uvicorn"], "both": ["gunicorn", "uvicorn"]}
        return {name: COMMANDS[name] for name in names[interface]}
