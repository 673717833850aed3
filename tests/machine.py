"""A whole machine of Debian's packages with its own systemd, in namespaces: no network, no VM."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.project import clean_environment, uv
from tests.services import missing, wait_until

# Kept between runs: making it takes a minute.
CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cookiecutter-django-gateway"
)
PACKAGES = "systemd,dbus,python3,python3-venv,nginx-light,openssl,ca-certificates"

# $1 root, $2 file with lines "source target" of what else is mounted.
BOOT = """
set -e
root=$1; mounts=$2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for folder in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$folder"; done
chmod 1777 "$root/tmp"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
while read -r source target; do
    if [ -d "$source" ]; then mkdir -p "$root$target"; else touch "$root$target"; fi
    mount --bind "$source" "$root$target"
done < "$mounts"
ip link set lo up
cd "$root"
pivot_root . .
umount -l .
exec env -i container=other PATH=/usr/sbin:/usr/bin chroot . /usr/lib/systemd/systemd
"""


def require() -> None:
    """Skip the test if no machine can be made here; CI has to be able to."""
    for program in ("mmdebstrap", "unshare", "nsenter", "ip"):
        if not shutil.which(program):
            missing(program, "mmdebstrap util-linux iproute2")
    if os.geteuid() != 0:
        missing("root, who may make namespaces,", "sudo, and run the tests with it")


def base() -> Path:
    """Return the folder with the machine's files as Debian has them, which nobody changes."""
    root = CACHE / "machine"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "machine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            making = CACHE / "machine.new"
            shutil.rmtree(making, ignore_errors=True)
            subprocess.run(
                ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}",
                 "--dpkgopt=path-exclude=/usr/share/doc/*",
                 "--dpkgopt=path-exclude=/usr/share/man/*",
                 "--dpkgopt=path-exclude=/usr/share/locale/*", "trixie", making],
                check=True,
            )  # fmt: skip
            making.rename(root)
    return root


@dataclass(frozen=True)
class Machine:
    """A running machine: where its files are, and the id of its systemd as seen from here."""

    root: Path
    pid: int

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as its root and return how it went; output and errors are one text."""
        return subprocess.run(
            ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--uts", "--ipc",
             "--cgroup", "--root", "--wd", "env", "-i", "HOME=/root",
             "PATH=/usr/local/bin:/usr/sbin:/usr/bin", *(f"{k}={v}" for k, v in variables.items()),
             *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )  # fmt: skip

    def must(self, *command: str, **variables: str) -> str:
        """Run a command that has to succeed and return its output."""
        run = self.run(*command, **variables)
        assert run.returncode == 0, f"{' '.join(command)}: {run.returncode}\n{run.stdout}"
        return run.stdout

    def at_its_network(self, *command: str) -> list[str]:
        """Return `command` as one that runs here, but on the network of the machine."""
        return ["nsenter", f"--target={self.pid}", "--net", *command]

    def path(self, name: str) -> Path:
        """Return where a file of the machine is, of those that are on its disk."""
        return self.root / name.lstrip("/")


@contextmanager
def machine(folder: Path, mounts: dict[Path, str]) -> Iterator[Machine]:
    """Boot a machine that keeps what changes in `folder`, and has uv with all it has fetched."""
    require()
    root, upper, work = folder / "root", folder / "upper", folder / "work"
    for path in (root, upper, work):
        path.mkdir(parents=True)
    cache = subprocess.run([uv(), "cache", "dir"], check=True, capture_output=True, text=True)
    mounts = mounts | {
        Path(uv()): "/usr/local/bin/uv",
        Path(cache.stdout.strip()): "/root/.cache/uv",
    }
    listed = folder / "mounts"
    listed.write_text("".join(f"{source} {target}\n" for source, target in mounts.items()))
    options = f"lowerdir={base()},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", root], check=True)
    groups = Path(re.search(r"^\S+ (\S+) cgroup2 ", Path("/proc/mounts").read_text(), re.M)[1])
    group = groups / f"machine-{os.getpid()}-{folder.name}"
    group.mkdir()
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig=KILL",
         "sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh",
         "unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net",
         "--cgroup", "bash", "-c", BOOT, "bash", str(root), str(listed)],
        stdin=subprocess.DEVNULL,
        env=clean_environment(),
    )  # fmt: skip
    try:
        wait_until(lambda: psutil.Process(process.pid).children(), "the machine is made")
        [first] = psutil.Process(process.pid).children()
        booted = Machine(root, first.pid)
        wait_until(
            lambda: re.match(
                "running|degraded", booted.run("systemctl", "is-system-running").stdout
            ),
            "the machine is up",
        )
        yield booted
    finally:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children():
                # The first of its processes: all others end with it.
                child.send_signal(signal.SIGKILL)
        process.wait()
        subprocess.run(["umount", "--lazy", root], check=True)
        for path in sorted(group.rglob("*/"), reverse=True):
            path.rmdir()
        group.rmdir()
