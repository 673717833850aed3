"""What the suite says of uvicorn and Channels as they are emitted.

It is written in Python 2.7 and needs one, which few machines still have; without it this is
skipped, with CI as well.
"""

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import Prepare
from tests.project import clean_environment
from tests.site import probes_of, running

pytestmark = pytest.mark.serve

PROBES = Path(__file__).with_name("probes")
START = [
    "python", "-c",
    "from config import uvicorn_conf\n"
    "uvicorn_conf.OPTIONS['app'] = 'autobahn_application:application'\n"
    "uvicorn_conf.main()",
]  # fmt: skip
# In a folder of its own; zope's packages are found by the file that pip puts there.
WSTEST = (
    "import site, sys; site.addsitedir(sys.argv.pop(1)); "
    "from autobahntestsuite.wstest import run; run()"
)
# All that is no choice of ours: 9 wants messages of 16 MiB, 12 and 13 compression.
EXCLUDED = ["9.*", "12.*", "13.*"]
# What is not "OK", and may be "OK" now and then: it depends on how the bytes come together. 3 to 5
# have a fault after messages that may be answered or not; 6.4 has text that may be refused before
# its frame is whole. 7.1.5 fails in the library: a close frame cuts a message short.
KNOWN = {
    "NON-STRICT": {
        "3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15",
        "6.4.1", "6.4.2", "6.4.3", "6.4.4",
    },
    "INFORMATIONAL": {"7.1.6", "7.13.1", "7.13.2"},
    "FAILED": {"7.1.5"},
}  # fmt: skip
# Of 247 cases: so many are "OK" at least, and "NON-STRICT" at most. They are 230 and 13 on an idle
# machine. A busy one reads the bytes of 3.4 or 5.15 in other pieces, and has one less.
OK, NON_STRICT = 229, 14


def python2() -> dict[str, str]:
    """Return the environment in which `python2.7` is one, or skip the test."""
    environment = clean_environment()
    if pyenv := shutil.which("pyenv"):
        versions = subprocess.run(
            [pyenv, "versions", "--bare"], env=environment, capture_output=True, text=True
        ).stdout.split()
        environment["PYENV_VERSION"] = next((v for v in versions if v.startswith("2.7")), "system")
    try:
        subprocess.run(["python2.7", "-m", "pip", "--version"], env=environment, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("Autobahn's suite needs Python 2.7 with pip: pyenv install 2.7")
    return environment


def test_every_case_is_answered_as_the_protocol_says(prepared: Prepare, tmp_path: Path) -> None:
    environment = python2()
    suite, reports = tmp_path / "suite", tmp_path / "reports"
    subprocess.run(
        ["python2.7", "-m", "pip", "install", "--quiet", "--target", suite, "autobahntestsuite"],
        env=environment, check=True, timeout=500,
    )  # fmt: skip
    project, variables = prepared(
        {"interface": "asgi", "realtime": "channels", "database": "sqlite"}
    )
    shutil.copytree(PROBES, probes_of(project), dirs_exist_ok=True)
    variables = variables | {"WEB_CONCURRENCY": "1"}
    with running(project, START, tmp_path / "log", **variables) as site:
        specification = {
            "outdir": str(reports),
            "servers": [{"agent": "site", "url": f"ws://127.0.0.1:{site.port}/echo"}],
            "cases": ["*"],
            "exclude-cases": EXCLUDED,
        }
        (tmp_path / "specification.json").write_text(json.dumps(specification))
        subprocess.run(
            ["python2.7", "-c", WSTEST, suite, "--mode", "fuzzingclient",
             "--spec", tmp_path / "specification.json"],
            env=environment, check=True, timeout=500,
        )  # fmt: skip
    found = json.loads((reports / "index.json").read_text())["site"]
    assert len(found) == 247
    for name, case in found.items():
        assert case["behavior"] == "OK" or name in KNOWN.get(case["behavior"], ()), (name, case)
        ends = {"OK", "INFORMATIONAL"} if name not in KNOWN["FAILED"] else {"OK", "WRONG CODE"}
        assert case["behaviorClose"] in ends, (name, case)
    counts = Counter(case["behavior"] for case in found.values())
    assert counts["OK"] >= OK, counts
    assert counts["NON-STRICT"] <= NON_STRICT, counts
