"""The units of a project."""

from collections import defaultdict
from pathlib import Path

from tests.combinations import VALID
from tests.project import Project

SYSTEMD = [answers for answers in VALID if answers["deployment"] == "systemd"]
# A client that asks until it is told to stop, and counts the answers.
LOAD = str(Path(__file__).parent.with_name("load.py"))
type Unit = dict[str, list[str]]


def roles_of(project: Project) -> dict[str, int]:
    """Return the servers of a project, and the ports on which systemd listens for them."""
    return {"pages": 8001, "live": 8002} if project.is_(interface="both") else {"web": 8000}


def unit(project: Project, name: str) -> Unit:
    """Return a unit's settings with all their values, in order."""
    found: Unit = defaultdict(list)
    for line in project.read(f"deploy/systemd/{project.slug}-{name}").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found
