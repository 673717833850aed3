"""An answer is changed later, by one command, in a project with its owner's work in it.

What comes out has to be what somebody gets who gives the new answers at once and then does the
same work: no file less or more, no conflict, no leftover folder.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.combinations import CHOICES, SITES, TEMPLATE, Answers, name_of
from tests.conftest import Bake
from tests.project import Project, clean_environment, uv

pytestmark = pytest.mark.project

CRUFT = str(Path(sys.executable).with_name("cruft"))
AUTHOR = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")

AUTHOR_WORDS = " ".join(AUTHOR)

PAIRS = [answers for answers in SITES if answers["database"] == "sqlite"]
MOVES = list(itertools.permutations(PAIRS, 2))
# In the everyday run each pair is left once and come to once.
CYCLE = list(zip(PAIRS, PAIRS[1:] + PAIRS[:1], strict=True))
PLACES = ["compose", "kubernetes", "systemd"]
WSGI = {"interface": "wsgi", "realtime": "none", "database": "sqlite", "deployment": "none"}
CHAT = {"interface": "both", "realtime": "channels", "database": "postgresql"}
EVENTS = {"interface": "asgi", "realtime": "sse", "database": "sqlite"}
PLACE_MOVES = [
    *((WSGI, CHAT | {"deployment": place}) for place in PLACES),
    *((CHAT | {"deployment": place}, WSGI) for place in PLACES),
    (CHAT | {"deployment": "compose"}, EVENTS | {"deployment": "systemd"}),
    (EVENTS | {"deployment": "systemd"}, CHAT | {"deployment": "kubernetes"}),
    (CHAT | {"deployment": "kubernetes"}, EVENTS | {"deployment": "compose"}),
]


def name_of_move(move: tuple[Answers, Answers]) -> str:
    return " to ".join(map(name_of, move))


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder`; return what it printed."""
    return subprocess.run(
        # This checkout may belong to somebody else, as in a container.
        ["git", "-c", "safe.directory=*", *AUTHOR, *arguments],
        cwd=folder,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the template as it stands here, committed or not."""
    folder = tmp_path_factory.mktemp("template") / "gateway"
    names = git(TEMPLATE, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, names.split("\0")):
        if (TEMPLATE / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TEMPLATE / name, folder / name)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "The template")
    return folder


def cruft(folder: Path, *arguments: str) -> str:
    """Run cruft; return what it printed."""
    run = subprocess.run(
        [CRUFT, *arguments], cwd=folder, env=clean_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    return run.stdout


Create = Callable[[Answers, Path], Project]


@pytest.fixture(scope="session")
def create(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Create:
    """Return a function that puts a project into a folder, as `cruft create` makes it."""
    made: dict[str, Project] = {}

    def create(answers: Answers, folder: Path) -> Project:
        name = name_of(answers)
        if name not in made:
            place = tmp_path_factory.mktemp("created")
            given = json.dumps({"project_name": "Corner Shop", **answers})
            cruft(place, "create", str(template), "--no-input", "--extra-context", given)
            made[name] = Project(place / "corner_shop", {"project_slug": "corner_shop", **answers})
        return Project(shutil.copytree(made[name].path, folder), made[name].answers)

    return create


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, (path, old)
    path.write_text(text.replace(old, new, 1))


def work_on(project: Project) -> None:
    """Do what an owner does in the first week."""
    settings = project.path / "config" / "settings.py"
    # As `just startapp` does it.
    edit(settings, '.welcome",\n', '.welcome",\n    "corner_shop.shop",\n')
    edit(settings, '= "UTC"', '= "Europe/Berlin"')
    settings.write_text(settings.read_text() + '\n\nSHOP_NAME = "The corner"\n')
    app = project.path / "corner_shop" / "shop"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "urls.py").write_text("urlpatterns = []  # type: ignore[var-annotated]\n")
    edit(
        project.path / "config" / "urls.py",
        "document_root=settings.MEDIA_ROOT),\n",
        "document_root=settings.MEDIA_ROOT),\n"
        '    path("shop/", include("corner_shop.shop.urls")),\n',
    )
    base = project.path / "corner_shop" / "templates" / "base.html"
    edit(base, "</body>", "    <p>Open until six</p>\n</body>")
    (project.path / "tests" / "test_shop.py").write_text(
        "from django.test import Client\n\n\n"
        "def test_nothing_is_sold_yet(client: Client) -> None:\n"
        '    assert client.get("/shop/").status_code == 404\n'
    )
    project.must(uv(), "add", "--frozen", "--quiet", "pillow>=12")
    with (project.path / ".env").open("a") as file:
        file.write("\nSHOP_KEY=mine\n")


def contents(project: Project) -> dict[str, bytes | None]:
    """Return all folders and files, but for what is of a machine, or of git and cruft."""
    found: dict[str, bytes | None] = {}
    for folder, folders, files in os.walk(project.path):
        folders[:] = [name for name in folders if name != ".git"]
        for name in (*folders, *files):
            path = Path(folder, name)
            # The secrets of a machine stay, with their folder.
            only_secrets = path.is_dir() and [one.name for one in path.iterdir()] == [".env"]
            if name not in {".env", ".cruft.json"} and not only_secrets:
                content = None if path.is_dir() else path.read_bytes()
                found[str(path.relative_to(project.path))] = content
    return found


def switch(project: Project, answers: Answers) -> str:
    """Commit what was done, and change the answers; return what cruft printed."""
    commit(project.path, "A week of work")
    changed = {name: value for name, value in answers.items() if not project.is_(**{name: value})}
    # As docs/switching.md and the README of a project say it.
    return cruft(
        project.path, "update", "--skip-apply-ask",
        "--variables-to-update", json.dumps(changed),
    )  # fmt: skip


def begin(create: Create, answers: Answers, folder: Path) -> Project:
    """Create a project, commit it, and work on it."""
    project = create(answers, folder)
    git(project.path, "init", "--quiet")
    commit(project.path, "As it was created")
    work_on(project)
    return project


@pytest.mark.parametrize(
    "move",
    [
        pytest.param(move, marks=pytest.mark.bake if move in CYCLE else ())
        for move in (*MOVES, *PLACE_MOVES)
    ],
    ids=name_of_move,
)
def test_move_gives_what_the_new_answers_give_and_keeps_the_work(
    move: tuple[Answers, Answers], create: Create, tmp_path: Path
) -> None:
    before, after = move
    project = begin(create, before, tmp_path / "moved")
    machine = project.read(".env")
    expected = create(after, tmp_path / "expected")
    work_on(expected)

    output = switch(project, after)

    assert contents(project) == contents(expected), output
    assert project.read(".env") == machine


def test_site_of_a_week_becomes_one_with_a_live_chat(create: Create, tmp_path: Path) -> None:
    project = begin(create, WSGI, tmp_path / "shop")
    switch(project, CHAT | {"deployment": "kubernetes"})

    project.install()
    project.must("just", "lint")
    output = project.must("just", "test", "-q", "-p", "no:cacheprovider")
    assert re.search(r"\b\d\d+ passed", output)


def test_difference_to_the_template_is_ones_own_work_and_no_secret(
    create: Create, tmp_path: Path
) -> None:
    project = begin(create, CHAT | {"deployment": "compose"}, tmp_path / "shop")
    secrets = [
        line.partition("=")[2]
        for name in (".env", "deploy/.env")
        for line in project.read(name).splitlines()
        if "SECRET" in line or "PASSWORD" in line
    ]
    assert len([secret for secret in secrets if len(secret) > 20]) >= 2

    run = subprocess.run(
        [CRUFT, "diff"], cwd=project.path, env=clean_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip

    assert "Europe/Berlin" in run.stdout
    assert "SHOP_KEY" not in run.stdout
    assert not any(secret in run.stdout for secret in secrets if secret)


def test_update_says_nothing_of_a_new_site(create: Create, tmp_path: Path) -> None:
    project = begin(create, WSGI, tmp_path / "shop")

    assert "Your site is in" not in switch(project, WSGI | {"deployment": "systemd"})


def test_project_is_the_same_without_cruft(create: Create, bake: Bake, tmp_path: Path) -> None:
    assert contents(create(WSGI, tmp_path / "shop")) == contents(bake(**WSGI))


def test_commands_of_the_readme_change_an_answer(
    bake: Bake, create: Create, template: Path, tmp_path: Path
) -> None:
    """In a project that cookiecutter made, with a name that a shell might take apart."""
    made = bake(**WSGI | {"project_name": "Bob's Bikes"})
    project = Project(shutil.copytree(made.path, tmp_path / "bikes"), made.answers)
    git(project.path, "init", "--quiet")
    commit(project.path, "As it was made")
    section = project.read("README.md").partition("## Changing an answer later")[2]
    commands = section.split("```")[1].replace("TEMPLATE", str(template))
    commands = commands.replace("uvx cruft update", f"{CRUFT} update --skip-apply-ask")
    commands = commands.replace("uvx cruft", CRUFT).replace(
        "git commit", f"git {AUTHOR_WORDS} commit"
    )

    run = subprocess.run(
        ["bash", "-ec", commands], cwd=project.path, env=clean_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip

    assert run.returncode == 0, run.stdout
    after = bake(
        project_name="Bob's Bikes", interface="both", realtime="channels", database="sqlite",
        deployment="none",
    )  # fmt: skip
    assert contents(project) == contents(after)


def test_table_of_files_is_what_the_answers_give(bake: Bake) -> None:
    """docs/switching.md, for somebody who looks up what will change."""
    files = {
        interface: bake(**WSGI | {"interface": interface}).files()
        for interface in CHOICES["interface"]
    }
    rows = []
    for before, after in itertools.permutations(files, 2):
        new, removed = (
            ", ".join(f"`{name}`" for name in sorted(names)) or "none"
            for names in (files[after] - files[before], files[before] - files[after])
        )
        rows.append(f"| {before} | {after} | {new} | {removed} |\n")

    assert "".join(rows) in (TEMPLATE / "docs" / "switching.md").read_text(encoding="utf-8")
