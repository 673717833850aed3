"""The look for vulnerabilities: what it looks at, and that it fails if one of them has any.

The advisories themselves are asked for by a workflow, each Monday.
"""

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.combinations import TEMPLATE, VALID
from tests.conftest import Bake
from tests.project import Project, clean_environment, uv

pytestmark = pytest.mark.bake

AUDIT = TEMPLATE / ".ci/audit"
PROJECTS = re.findall(r"^\w+ (interface=\S+ realtime=\S+ database=\S+)$", AUDIT.read_text(), re.M)
# Notes what is audited, and finds something in a project of that name.
UV = """#!/bin/sh
case "$1" in
    audit) echo "$*" >> "$NOTES"; case "$*" in *"$BAD"*) exit 1 ;; esac ;;
    *) exec {uv} "$@" ;;
esac
"""


def dependencies(project: Project) -> set[str]:
    found = tomllib.loads(project.read("pyproject.toml"))
    return {*found["project"]["dependencies"], *found["dependency-groups"]["dev"]}


def test_all_dependencies_are_audited(bake: Bake) -> None:
    answers = [dict(pair.split("=") for pair in line.split()) for line in PROJECTS]
    audited = dependencies(bake(**answers[0]))

    for combination in VALID:
        assert dependencies(bake(**combination)) <= audited, combination


@pytest.mark.parametrize(("bad", "status"), [("streams", 1), ("no such project", 0)])
def test_one_that_has_a_vulnerability_is_enough(tmp_path: Path, bad: str, status: int) -> None:
    fake, notes = tmp_path / "uv", tmp_path / "notes"
    fake.write_text(UV.format(uv=shlex.quote(uv())))
    fake.chmod(0o755)
    environment = clean_environment()
    environment |= {"BAD": bad, "NOTES": str(notes)}
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"

    run = subprocess.run([AUDIT], env=environment, capture_output=True, text=True, timeout=300)

    assert run.returncode == status, run.stderr
    audited = notes.read_text().splitlines()
    assert len(audited) == len(PROJECTS) + 1
    # The last one is this repository.
    assert [bool(re.search("--project", line)) for line in audited] == [True] * len(PROJECTS) + [
        False
    ]
