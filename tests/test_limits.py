"""The table of limits in docs/deploy.md: what the files say, and how the rows fit each other."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.combinations import TEMPLATE
from tests.conftest import Bake

pytestmark = pytest.mark.bake

ROWS = re.findall(
    r"^\| ([^|]+) \| ([\d,]+) \| (\d{3,4}) \| (`.+) \|$",
    (TEMPLATE / "docs/deploy.md").read_text(),
    re.M,
)
LIMITS = {what: int(limit.replace(",", "")) for what, limit, _, _ in ROWS}
UNITS = {"": 1, "k": 1024, "KiB": 1024, "m": 1024**2}


def number(text: str) -> int:
    """Return the number in `8 * 1024`, `8k`, `4 8k`, `32KiB` or `10m`."""
    found = 1
    for digits, unit in re.findall(r"(\d+)(KiB|k|m|)", text):
        found *= int(digits) * UNITS[unit]
    return found


def test_limits_are_those_of_the_table(bake: Bake) -> None:
    said: dict[tuple[str, str], set[int]] = defaultdict(set)
    for what, _, _, places in ROWS:
        for file, option in re.findall(r"`([\w.-]+)` ([\w-]+)", places):
            said[file, option].add(LIMITS[what])
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for deployment in ("compose", "systemd"):
        project = bake(
            interface="both", realtime="channels", database="sqlite", deployment=deployment
        )
        for name in project.files():
            for file, option in said:
                # The chat has limits of its own.
                if Path(name).name == file and "chat/" not in name:
                    pattern = rf'(?<![\w-]){option}\b"?(?: =|:|) ([\dkKiBm *]+?)[,;]?(?: #.*)?$'
                    values = re.findall(pattern, project.read(name), re.M)
                    found[file, option] |= set(map(number, values))

    # Of one buffer of nginx's and of all of them.
    [buffers] = found["nginx.conf", "large_client_header_buffers"]
    assert buffers == LIMITS["all headers, as the proxies read them"]
    found["nginx.conf", "large_client_header_buffers"].add(LIMITS["a header"])
    assert "large_client_header_buffers 4 8k;" in project.read("deploy/systemd/nginx.conf")
    assert found == said


def test_limits_fit_each_other() -> None:
    assert LIMITS["the request line"] == LIMITS["a header"]
    assert LIMITS["a header"] < LIMITS["all headers"]
    # What the proxies read beyond it is refused by the servers, with one answer.
    assert LIMITS["all headers"] < LIMITS["all headers, as the proxies read them"]


def test_readmes_say_the_limits(bake: Bake) -> None:
    for deployment in ("compose", "kubernetes", "systemd"):
        text = bake(
            interface="both", realtime="none", database="postgresql", deployment=deployment
        ).read("deploy/README.md")
        said = set(re.findall(r"\d+ [KM]B", " ".join(text.split())))
        assert {"8 KB", "16 KB", "10 MB"} <= said, deployment


def test_limit_of_log_ins_is_said_as_it_is(bake: Bake) -> None:
    project = bake(interface="wsgi", database="postgresql", deployment="systemd")
    conf = project.read("deploy/systemd/nginx.conf")
    (burst,), (rate,) = (re.findall(rf"{name}=(\d+)", conf) for name in ("burst", "rate"))

    # The first is no part of the burst.
    at_once = int(burst) + 1
    assert f"{rate}r/m" == "60r/m", "one a second"
    assert f"# {at_once} at once, then one per second." in conf
    readme = " ".join(project.read("deploy/README.md").split())
    assert f"try to log in {at_once} times at once, and then once per second" in readme
