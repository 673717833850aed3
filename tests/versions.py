"""With which versions of Python and of its dependencies does a project work?

    uv run python -m tests.versions [--python 3.13] [--dependencies lowest]

bakes a project that has the dependencies of every answer, installs it with each Python that is on
this machine, and runs its tests: with the lowest releases that its pyproject.toml admits, with the
newest that it admits, and with newer ones that it does not. It writes the table in
docs/versions.md anew; what was not run now keeps its line. It ends with 1 if the tests have failed
with what a project admits.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.combinations import TEMPLATE
from tests.project import Project, clean_environment, uv

# Those of Django 6.1.
PYTHONS = ["3.12", "3.13", "3.14", "3.15"]
DEPENDENCIES = {
    "lowest": ("--resolution", "lowest-direct"),
    "newest": ("--upgrade",),
    "newer than admitted": ("--upgrade",),
}
ANSWERS = {
    "project_name": "Corner Shop",
    "interface": "both",
    "realtime": "channels",
    "database": "postgresql",
    "deployment": "none",
}
SHOWN = ("django", "gunicorn", "uvicorn", "channels")
FILE = TEMPLATE / "docs" / "versions.md"
BEGIN = "<!-- begin: written by `uv run python -m tests.versions` -->"
END = "<!-- end -->"
HEAD = ["Python", "dependencies", "releases", "tests", "day"]

type Line = list[str]


@dataclass(frozen=True)
class Result:
    """How the tests of a project went: their last line, and all that was printed."""

    releases: str
    tests: str
    output: str

    @property
    def passed(self) -> bool:
        return bool(re.match(r"\d+ passed", self.tests))


def find_python(version: str) -> str | None:
    """Return the path of this Python, or None if it is not on this machine."""
    # In other folders than those that name a version, pyenv's own python3.12 only complains.
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    folders = [str(folder) for folder in pyenv.glob(f"{version}.*/bin")]
    environment = clean_environment()
    environment["PATH"] = os.pathsep.join([*folders, environment["PATH"]])
    run = subprocess.run(
        [uv(), "python", "find", "--no-project", "--no-python-downloads", version],
        cwd="/", env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return run.stdout.strip() if run.returncode == 0 else None


def admit(pyproject: str, version: str, dependencies: str) -> str:
    """Return a pyproject.toml that admits this Python and these dependencies."""
    pyproject = re.sub(r'(requires-python = ">=)[\d.]+', rf"\g<1>{version}", pyproject)
    if dependencies == "newer than admitted":
        pyproject = re.sub(r'(>=[\d.]+),<[\d.]+(?=")', r"\1", pyproject)
    return pyproject


def is_admitted(version: str, dependencies: str) -> bool:
    """Return whether a project, as it is made, can be installed so."""
    emitted = TEMPLATE / "{{ cookiecutter.project_slug }}" / "pyproject.toml"
    lowest = re.search(r'requires-python = ">=(3\.\d+)"', emitted.read_text(encoding="utf-8"))
    assert lowest
    return version in PYTHONS[PYTHONS.index(lowest[1]) :] and dependencies != "newer than admitted"


def run(version: str, python: str, dependencies: str, folder: Path) -> Result:
    """Make, install and test a project in `folder`, a new one."""
    Project(TEMPLATE, {}).must(
        sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input", "--default-config",
        "--output-dir", str(folder), *(f"{name}={value}" for name, value in ANSWERS.items()),
    )  # fmt: skip
    project = Project(folder / "corner_shop", ANSWERS | {"project_slug": "corner_shop"})
    file = project.path / "pyproject.toml"
    file.write_text(admit(file.read_text(), version, dependencies), encoding="utf-8")
    (project.path / ".python-version").unlink()

    sync = project.run(uv(), "sync", "--quiet", "--python", python, *DEPENDENCIES[dependencies])
    if sync.returncode:
        return Result("", "cannot be installed", sync.stdout)
    versions = dict(
        line.split("==")
        for line in project.must(uv(), "pip", "freeze", "--quiet").splitlines()
        if "==" in line
    )
    tested = project.run("pytest", "-q", "-p", "no:cacheprovider")
    last = tested.stdout.strip().splitlines()[-1]
    return Result(
        ", ".join(f"{name} {versions[name]}" for name in SHOWN),
        # Without the time that they took.
        re.sub(r" in .*", "", last.strip("= ")) if tested.returncode < 2 else "cannot be run",
        tested.stdout,
    )


def read() -> list[Line]:
    """Return the lines of the table, each as its cells."""
    table = FILE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]


def merged(old: list[Line], new: list[Line]) -> list[Line]:
    """Return both, in their order; a new line stands for the old one of the same run."""
    lines = {(line[0], line[1]): line for line in (*old, *new)}
    order = [(version, name) for version in PYTHONS for name in DEPENDENCIES]
    return [lines[key] for key in order if key in lines]


def write(lines: list[Line]) -> None:
    """Write the table anew."""
    before, _, rest = FILE.read_text(encoding="utf-8").partition(BEGIN)
    table = "\n".join(f"| {' | '.join(line)} |" for line in [HEAD, ["---"] * len(HEAD), *lines])
    FILE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="uv run python -m tests.versions", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=PYTHONS)
    parser.add_argument("--dependencies", nargs="+", choices=DEPENDENCIES, default=[*DEPENDENCIES])
    given = parser.parse_args()
    failed = False
    for version in given.python:
        if not (python := find_python(version)):
            print(f"Python {version} is not on this machine: uv python install {version}")
            continue
        for dependencies in given.dependencies:
            folder = Path(tempfile.mkdtemp(prefix="gateway-versions-"))
            result = run(version, python, dependencies, folder)
            print(f"Python {version}, {dependencies}: {result.tests} ({result.releases})")
            if result.passed:
                shutil.rmtree(folder)
            else:
                print(f"{result.output}\nThe project is in {folder}.")
                failed = failed or is_admitted(version, dependencies)
            day = time.strftime("%Y-%m-%d")
            line = [version, dependencies, result.releases, result.tests, day]
            write(merged(read(), [line]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
