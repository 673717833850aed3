"""One way to write a value, for every file of settings: .env, compose's and systemd's.

They have three readers. Between single quotes a value is the same to all of them.
"""

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import Bake
from tests.env_lines import QUOTED
from tests.machine import machine
from tests.project import Project

pytestmark = pytest.mark.deploy

EXPECTED = {f"AWKWARD_{number}": value for number, value in enumerate(QUOTED)}
LINES = [f"{name}='{value}'" for name, value in EXPECTED.items()]
# As editors of Linux and of Windows write it.
TEXTS = ["\n".join(["# Settings", *LINES, ""]), "\r\n".join(["\ufeff# Settings", *LINES, ""])]
READ = """
import json, os, sys
from pathlib import Path
from serving import env_values
env_values.load_dotenv(Path(sys.argv[1]))
json.dump(dict(os.environ), sys.stdout)
"""


@pytest.fixture(scope="module", params=TEXTS, ids=["linux", "windows"])
def text(request: pytest.FixtureRequest) -> bytes:
    return request.param.encode()


def awkward(found: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in found.items() if name.startswith("AWKWARD")}


def test_the_site_reads_what_stands_between_single_quotes(
    toolbox: Project, tmp_path: Path, text: bytes
) -> None:
    (tmp_path / ".env").write_bytes(text)

    found = json.loads(toolbox.must("python", "-c", READ, str(tmp_path / ".env")))

    assert awkward(found) == EXPECTED


def test_compose_reads_what_stands_between_single_quotes(bake: Bake, text: bytes) -> None:
    project = bake(interface="wsgi", database="sqlite", deployment="compose")
    (project.path / "deploy" / ".env").write_bytes(text)

    # Docker's own program, which needs no engine for this.
    compose = Path(sys.executable).with_name("docker-compose")
    output = project.must(
        str(compose), "-f", "deploy/compose.yaml", "config", "--format", "json", "-o", "read.json"
    )
    found = json.loads(project.read("read.json"))["services"]["web"]["environment"]

    # In its own files a $ is written as two.
    assert awkward({name: value.replace("$$", "$") for name, value in found.items()}) == EXPECTED
    assert "variable is not set" not in output


def test_systemd_reads_what_stands_between_single_quotes(tmp_path: Path) -> None:
    with machine(tmp_path, {}) as booted:
        for text in TEXTS:
            booted.path("/etc/environment.test").write_text(text)
            output = booted.must(
                "systemd-run", "--quiet", "--wait", "--pipe", "--collect",
                "--property=EnvironmentFile=/etc/environment.test", "env", "--null",
            )  # fmt: skip
            found = dict(line.split("=", 1) for line in output.split("\0") if line)

            assert awkward(found) == EXPECTED


@pytest.mark.parametrize(
    ("file", "deployment"),
    [("deploy/.env.example", "compose"), ("deploy/systemd/environment", "systemd"),
     (".env.example", "none")],
)  # fmt: skip
def test_each_file_says_how_a_value_is_written(bake: Bake, file: str, deployment: str) -> None:
    text = bake(interface="wsgi", database="sqlite", deployment=deployment).read(file)

    assert "in single quotes" in " ".join(text.replace("#", "").split())
