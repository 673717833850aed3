"""The emitted subclasses of Django's handler and middleware keep what Django's tests promise."""

import os
import re
import tarfile
from pathlib import Path

import pytest

from tests.combinations import SITES, name_of
from tests.project import Project, uv

RUNNER = Path(__file__).with_name("django_suite.py")
LABELS = [
    "asgi",
    "async",
    "csrf_tests",
    "handlers",
    "messages_tests",
    "middleware",
    "middleware_exceptions",
    "sessions_tests",
    "signals",
]
# One is as good as the other: the emitted files are the same.
COMBINATION = next(answers for answers in SITES if answers["interface"] == "asgi")


@pytest.mark.project
@pytest.mark.parametrize("installed", [COMBINATION], ids=name_of, indirect=True)
def test_djangos_own_tests_pass(installed: Project, tmp_path: Path) -> None:
    """Its source distribution carries them; it is the version that the project installed."""
    version = installed.must("python", "-c", "import django; print(django.__version__)").strip()
    download = installed.run(
        uv(), "run", "--no-project", "--with", "pip", "--python", str(installed.bin / "python"),
        "python", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
        "--dest", str(tmp_path), f"django=={version}",
    )  # fmt: skip
    if download.returncode and not os.environ.get("CI"):
        pytest.skip(f"Django's source distribution could not be had:\n{download.stdout}")
    assert download.returncode == 0, download.stdout
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")

    tests = tmp_path / f"django-{version}" / "tests"
    output = installed.must("python", str(RUNNER), str(installed.path), str(tests), *LABELS)

    assert "in place: Handler" in output
    ran = re.search(r"^Ran (\d+) tests", output, re.MULTILINE)
    assert ran, output
    assert int(ran[1]) > 1000, output
    assert re.search(r"^OK \(", output, re.MULTILINE), output
