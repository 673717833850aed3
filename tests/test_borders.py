"""Imports go one way: the site may import config, config may import serving, and never back.

The emitted lint refuses the usual mistakes, so an owner sees them at once. What ruff cannot see,
such as a relative import, is looked at here in what comes out.
"""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Bake
from tests.project import Project

pytestmark = pytest.mark.bake

# Where config/ has to name the site: its pages and its sockets.
LISTS = {"config/urls.py", "config/routing.py"}


def imports(file: Path, package: str) -> Iterator[str]:
    """Return the modules that a file imports, by their full names, also inside of functions.

    One that is imported by its name, `import_module("config.settings")`, is among them.
    """
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(level=0):
                yield str(node.module)
            case ast.ImportFrom():
                parents = package.split(".")
                base = parents[: len(parents) - node.level + 1]
                yield ".".join([*base, node.module or node.names[0].name])
            case ast.Call(args=[ast.Constant(value=str(name)), *_]) if (
                getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module"
            ):
                yield name


def rooms(project: Project, folder: str) -> dict[str, set[str]]:
    """Return which rooms of the project each Python file in `folder` imports from."""
    known = {"config", "serving", "tests", project.slug}
    found = {}
    for file in sorted((project.path / folder).rglob("*.py")):
        name = file.relative_to(project.path)
        modules = imports(file, ".".join(name.parent.parts))
        found[str(name)] = {module.split(".")[0] for module in modules} & known
    return found


def test_machinery_imports_nothing_of_the_site(project: Project) -> None:
    found = rooms(project, "serving")

    assert len(found) > 10
    assert {name for name, others in found.items() if others - {"serving"}} == set()


def test_configuration_imports_the_site_where_it_lists_it_only(project: Project) -> None:
    found = rooms(project, "config")

    assert {name for name, others in found.items() if project.slug in others} <= LISTS
    assert not any("tests" in others for others in found.values())


def test_site_imports_no_entry_module(project: Project) -> None:
    """Nor tests: those import it."""
    for file in sorted((project.path / project.slug).rglob("*.py")):
        if file.name != "tests.py":
            package = ".".join(file.relative_to(project.path).parent.parts)
            modules = set(imports(file, package))
            assert not {one for one in modules if one.startswith(("config.asgi", "config.wsgi"))}
            assert not {one for one in modules if one.split(".")[0] == "tests"}


def test_reader_of_imports_sees_each_way_to_write_one(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "import config.urls\n"
        "from config import settings\n"
        "from . import hub\n"
        "from .. import config\n"
        "from ..edge import refuse\n"
        "def late():\n"
        "    import_module('config.asgi')\n"
        "    importlib.import_module('config.wsgi')\n"
    )

    assert list(imports(file, "serving.live")) == [
        "config.urls", "config", "serving.live.hub", "serving.config", "serving.edge",
        "config.asgi", "config.wsgi",
    ]  # fmt: skip


@pytest.mark.parametrize("file", ["serving/edge.py", "serving/live/hub.py"])
@pytest.mark.parametrize(
    "line",
    ["import config", "from config import settings", "from tests import browser",
     "from corner_shop.chat import models"],
)  # fmt: skip
def test_emitted_lint_refuses_an_import_in_the_wrong_direction(
    file: str, line: str, bake: Bake, toolbox: Project
) -> None:
    project = bake(interface="both", realtime="channels", database="postgresql")

    def banned(name: str) -> bool:
        check = [toolbox.bin / "ruff", "check", "--no-cache", "--stdin-filename", name, "-"]
        lint = subprocess.run(
            list(map(str, check)), cwd=project.path, capture_output=True, text=True,
            input=f"{line}\n{project.read(name)}",
        )  # fmt: skip
        return "TID251" in lint.stdout

    assert banned(file)
    # The other direction is what these rooms are for.
    assert not banned("config/settings.py")
    assert not banned("corner_shop/chat/views.py")
