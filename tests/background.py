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


SETTINGS, TASK = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


def add_to_compose(project: Project) -> None:
    """Add the worker where the page says it."""
    assert "above the comment of `caddy:`." in part("Docker Compose")
    file = project.path / "deploy" / "compose.yaml"
    above, caddy, below = re.split(r"^(  #.*\n  caddy:\n)", file.read_text(), flags=re.M)
    file.write_text(f"{above}{block('yaml', part('Docker Compose'))}\n{caddy}{below}")


def add_to_kubernetes(project: Project) -> Path:
    """Add the worker as the page says it; return the folder of what is applied."""
    folder = project.path / "deploy" / "kubernetes" / "production"
    (folder / "worker.yaml").write_text(named(block("yaml", part("Kubernetes")), project))
    kustomization = folder / "kustomization.yaml"
    text = kustomization.read_text()
    kustomization.write_text(text.replace("resources:\n", "resources:\n  - worker.yaml\n", 1))
    return folder


def unit_of_the_page(project: Project) -> Path:
    """Write the unit of a worker with the commands of the page, and return it."""
    commands = named(block("bash", part("systemd")), project)
    if project.is_(interface="both"):
        commands = commands.replace("-web", "-pages")
    subprocess.run(["bash", "-ec", commands], cwd=project.path, check=True)
    return project.path / "deploy" / "systemd" / f"{project.slug}-worker.service"
