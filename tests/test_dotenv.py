"""`.env` means the same to every recipe, and is what somebody wrote there."""

import json
from pathlib import Path

import pytest

from tests.combinations import CHOICES
from tests.conftest import Prepare
from tests.env_lines import QUOTED, UNQUOTED
from tests.services import free_port
from tests.site import probes_of, running

pytestmark = pytest.mark.serve

# What stands after the = of a line, and what it means.
VALUES = UNQUOTED | {f"'{value}'": value for value in QUOTED}
NAMES = {f"AWKWARD_{number}": value for number, value in enumerate(VALUES.values())}
# The settings of these tests write down what they find.
WRITE = """
from config.settings import *
from config import environment
import json, os
found = {name: value for name, value in os.environ.items() if name.startswith("AWKWARD")}
found["key"] = environment.SECRET_KEY
with open(os.environ["FOUND"], "w") as file:
    json.dump(found, file)
"""


@pytest.mark.parametrize("interface", CHOICES["interface"])
def test_every_recipe_takes_the_values_of_dotenv_as_they_are(
    interface: str, prepared: Prepare, tmp_path: Path
) -> None:
    project, variables = prepared(
        {"interface": interface, "realtime": "none", "database": "sqlite"}
    )
    port = free_port(3)
    (probes_of(project) / "dotenv_settings.py").write_text(WRITE)
    lines = [f"{name}={value}" for name, value in zip(NAMES, VALUES, strict=True)]
    lines += [f"PORT={port}", "DJANGO_SECRET_KEY=key of .env", "AWKWARD_SET=.env"]
    variables = variables | {
        "DJANGO_SETTINGS_MODULE": "dotenv_settings",
        "PYTHONWARNINGS": "default",
        "AWKWARD_SET": "the environment",
        "FOUND": str(tmp_path / "found"),
    }
    for name in ("DJANGO_SECRET_KEY", "DJANGO_HTTPS"):
        del variables[name]
    expected = NAMES | {"AWKWARD_SET": "the environment", "key": "key of .env"}
    dotenv = project.path / ".env"
    before = dotenv.read_bytes()
    # As editors of Windows write it.
    dotenv.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines, ""]).encode())
    try:
        project.must("just", "manage", "check", **variables)
        assert json.loads((tmp_path / "found").read_text()) == expected
        for verb in ("dev", "serve"):
            (tmp_path / "found").unlink()
            # It has to answer on the PORT that is in the file.
            command = ["env", "--unset=PORT", "just", verb]
            with running(project, command, tmp_path / verb, port=port, **variables):
                assert json.loads((tmp_path / "found").read_text()) == expected
    finally:
        dotenv.write_bytes(before)


def test_dotenv_in_another_encoding_is_refused_in_a_sentence(
    prepared: Prepare, tmp_path: Path
) -> None:
    project, variables = prepared({"interface": "wsgi", "realtime": "none", "database": "sqlite"})
    dotenv = project.path / ".env"
    before = dotenv.read_bytes()
    dotenv.write_bytes("PORT=8000\n".encode("utf-16"))
    try:
        run = project.run("just", "manage", "check", **variables)
    finally:
        dotenv.write_bytes(before)

    assert run.returncode != 0
    assert "This site cannot start: the file .env is not in UTF-8." in run.stdout
    assert "Traceback" not in run.stdout
