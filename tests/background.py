"""docs/background.md, and what its commands write into a project."""

import re
import subprocess
from pathlib import Path

from tests.combinations import TEMPLATE
from tests.project import Project

PAGE = (TEMPLATE / "docs" / "background.md").read_text(encoding="utf-8")


def block(language: str, of: str = PAGE) -> str:
    """Return the only block of a language on a page."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", of, re.M | re.S)
    return found


def part(name: str) -> str:
    """Return the paragraphs of a place where a worker runs."""
    return re.search(rf"^\*\*{name}\*\*.*?(?=^\*\*|^## )", PAGE, re.M | re.S)[0]


def named(text: str, project: Project) -> str:
    """Return what the page says with the names of a project."""
    slug = project.slug
    return text.replace("corner_shop", slug).replace("corner-shop", slug.replace("_", "-"))


def unit_of_the_page(project: Project) -> Path:
    """Write the unit of a worker with the commands of the page, and return it."""
    commands = named(block("bash", part("systemd")), project)
    if project.is_(interface="both"):
        commands = commands.replace("-web", "-pages")
    subprocess.run(["bash", "-ec", commands], cwd=project.path, check=True)
    return project.path / "deploy" / "systemd" / f"{project.slug}-worker.service"
