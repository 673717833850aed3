"""New apps, as `just startapp` makes them or their owner does: installed, tested, linted."""

import re

import pytest

from tests.conftest import Bake
from tests.project import uv

pytestmark = pytest.mark.project

MODEL = """\
from django.db import models


class Item(models.Model):
    name = models.CharField(max_length=20)

    def __str__(self) -> str:
        return self.name
"""


@pytest.mark.parametrize("slug", ["shop_window", "s" * 40])
def test_new_app_is_installed_tested_and_linted(slug: str, bake: Bake) -> None:
    """With its first model, and the migration as Django writes it."""
    project = bake(project_slug=slug, interface="asgi", realtime="channels")
    project.install()
    before = project.files()

    project.must("just", "startapp", "shop")

    new = {name for name in project.files() - before if "_cache/" not in name}
    assert new == {
        "tests/test_shop.py",
        *(f"{slug}/shop/{name}.py" for name in ("__init__", "admin", "apps", "models", "views")),
        f"{slug}/shop/migrations/__init__.py",
    }
    assert f'    "{slug}.welcome",\n    "{slug}.shop",\n' in project.read("config/settings.py")
    (project.path / slug / "shop" / "models.py").write_text(MODEL)
    project.must("just", "manage", "makemigrations", "shop")
    project.must("just", "lint")
    assert "1 passed" in project.must("just", "test", "-q", "-k", "test_app_is_installed")


@pytest.mark.parametrize(
    "name", ["my-app", "class", "users", "admin", "json", "Shop", "größe", "../x", ""]
)
def test_app_with_an_unfit_name_leaves_nothing_behind(name: str, install: Bake) -> None:
    project = install(interface="wsgi", realtime="none", database="sqlite")
    before = {path: path.read_bytes() for path in map(project.path.joinpath, project.files())}

    run = project.run("just", "startapp", name)

    assert run.returncode == 1
    assert re.match(r"'.*' (is|conflicts) .*\.$", run.stdout.splitlines()[0]), run.stdout
    assert "Traceback" not in run.stdout
    assert before == {path: path.read_bytes() for path in before}
    assert project.files() == {str(path.relative_to(project.path)) for path in before}


@pytest.mark.parametrize("name", ["accounts", "pages"])
def test_new_app_may_be_called_as_tests_of_the_project_are(name: str, bake: Bake) -> None:
    project = bake(interface="wsgi")
    project.install()
    before = project.read(f"tests/test_{name}.py")

    project.must("just", "startapp", name)

    assert project.read(f"tests/test_{name}.py") == before
    project.must("just", "lint")
    run = project.must("just", "test", "-q", f"tests/test_{name}_app.py")
    assert "1 passed" in run
    assert "is taken" in project.run("just", "startapp", name).stdout


def test_plain_startapp_is_tested_and_linted(bake: Bake) -> None:
    """As Django's documentation says, at the root, once `just fix` has put it in shape."""
    project = bake(interface="wsgi")
    project.install()

    project.must("django-admin", "startapp", "shop")
    settings = project.path / "config" / "settings.py"
    settings.write_text(settings.read_text().replace("APPS = [\n", 'APPS = [\n    "shop",\n'))
    (project.path / "shop" / "models.py").write_text(MODEL)
    project.must("just", "manage", "makemigrations", "shop")
    (project.path / "shop" / "tests.py").write_text("def test_shop() -> None:\n    assert True\n")
    project.must("just", "fix")
    project.must("just", "lint")
    assert "1 passed" in project.must("just", "test", "-q", "-k", "test_shop")


def test_packages_without_types_may_be_installed_apps(bake: Bake) -> None:
    """The type checker looks at all models, through everything that imports django.apps."""
    project = bake(interface="asgi", realtime="channels")
    project.must(uv(), "add", "--quiet", "djangorestframework")
    project.install()
    settings = project.path / "config" / "settings.py"
    settings.write_text(
        settings.read_text().replace("APPS = [\n", 'APPS = [\n    "rest_framework.authtoken",\n')
    )

    project.must("just", "lint")
