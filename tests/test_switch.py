"""An answer is changed later, by one command, in a project with its owner's work in it.

What comes out has to be what somebody gets who gives the new answers at once and then does the
same work: no file less or more, no conflict, no leftover folder.
"""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.combinations import (
    CHOICES,
    QUESTIONS,
    SITES,
    TEMPLATE,
    VERSION,
    Answers,
    is_valid,
    name_of,
)
from tests.conftest import Bake
from tests.project import Project, clean_environment, uv

pytestmark = pytest.mark.project

CRUFT = str(Path(sys.executable).with_name("cruft"))
AUTHOR = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")

AUTHOR_WORDS = " ".join(AUTHOR)
EMITTED = "{{ cookiecutter.project_slug }}"
ADDRESS = QUESTIONS["__address"]

PAIRS = [answers for answers in SITES if answers["database"] == "sqlite"]
MOVES = list(itertools.permutations(PAIRS, 2))
PLACES = ["compose", "kubernetes", "systemd"]
WSGI = {"interface": "wsgi", "realtime": "none", "database": "sqlite", "deployment": "none"}
ASGI = WSGI | {"interface": "asgi"}
CHAT = {"interface": "both", "realtime": "channels", "database": "postgresql"}
EVENTS = {"interface": "asgi", "realtime": "sse", "database": "sqlite"}
PLACE_MOVES = [
    *((WSGI, CHAT | {"deployment": place}) for place in PLACES),
    *((CHAT | {"deployment": place}, WSGI) for place in PLACES),
    (CHAT | {"deployment": "compose"}, EVENTS | {"deployment": "systemd"}),
    (EVENTS | {"deployment": "systemd"}, CHAT | {"deployment": "kubernetes"}),
    (CHAT | {"deployment": "kubernetes"}, EVENTS | {"deployment": "compose"}),
    *(
        (CHAT | {"deployment": before}, CHAT | {"deployment": after})
        for before, after in itertools.pairwise([*PLACES, PLACES[0]])
    ),
]


def choices_of(move: tuple[Answers, Answers]) -> set[tuple[tuple[int, str, str], ...]]:
    """Return each two choices that are met in a move, before it or after it."""
    met = [
        (side, name, answers[name])
        for side, answers in enumerate(move)
        for name in ("interface", "realtime")
    ]
    return set(itertools.combinations(met, 2))


def pairwise() -> list[tuple[Answers, Answers]]:
    """Return few moves in which every two choices meet that meet in any."""
    left, chosen = set().union(*map(choices_of, MOVES)), []
    while left:
        chosen.append(max(MOVES, key=lambda move: len(choices_of(move) & left)))
        left -= choices_of(chosen[-1])
    return chosen


# In the everyday run; all moves with CI.
FEW = pairwise()
EVERYDAY = [*FEW, PLACE_MOVES[0], PLACE_MOVES[-5]]


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


def cruft(folder: Path, *arguments: str, **variables: str) -> str:
    """Run cruft; return what it printed."""
    run = subprocess.run(
        [CRUFT, *arguments], cwd=folder, env=clean_environment() | variables, text=True,
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


def change(template: Path) -> None:
    """Change the template as a release may: a file, a new file and a derived variable for it."""
    settings = template / EMITTED / "config" / "settings.py"
    edit(settings, "AUTH_PASSWORD_VALIDATORS = [", "AUTH_PASSWORD_VALIDATORS = [  # changed")
    edit(template / "cookiecutter.json", '  "__wsgi":', '  "__next": "y",\n  "__wsgi":')
    new = template / EMITTED / "config" / "{% if cookiecutter.__next %}next.py{% endif %}"
    new.write_text('"""New."""\n')


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def work_on(project: Project) -> None:
    """Do what an owner does in the first week, at the places where people do it.

    docs/switching.md promises that none of this meets a changed answer.
    """
    settings = project.path / "config" / "settings.py"
    # As Django's tutorial does it, as `just startapp` does it, and as packages say it.
    edit(settings, "INSTALLED_APPS = [\n", 'INSTALLED_APPS = [\n    "corner_shop.polls",\n')
    edit(settings, '.welcome",\n', '.welcome",\n    "corner_shop.shop",\n')
    edit(settings, '.staticfiles",\n', '.staticfiles",\n    "django.contrib.humanize",\n')
    edit(settings, '= "UTC"', '= "Europe/Berlin"')
    append(settings, '\n\nSHOP_NAME = "The corner"\n')
    for name in ("polls", "shop"):
        app = project.path / "corner_shop" / name
        app.mkdir()
        (app / "__init__.py").touch()
        (app / "urls.py").write_text("urlpatterns = []  # type: ignore[var-annotated]\n")
    urls = project.path / "config" / "urls.py"
    first, last = "urlpatterns = [\n", "document_root=settings.MEDIA_ROOT),\n"
    edit(urls, first, first + '    path("polls/", include("corner_shop.polls.urls")),\n')
    edit(urls, last, last + '    path("shop/", include("corner_shop.shop.urls")),\n')
    base = project.path / "corner_shop" / "templates" / "base.html"
    comment, people = "links are optional. #}\n", "      {% if user.is_authenticated %}\n"
    edit(base, comment, comment + '      <a href="/polls/">Polls</a>\n')
    edit(base, people, '      <a href="/shop/">Shop</a>\n' + people)
    edit(base, "</body>", "    <p>Open until six</p>\n</body>")
    (project.path / "tests" / "test_shop.py").write_text(
        "from django.test import Client\n\n\n"
        "def test_nothing_is_sold_yet(client: Client) -> None:\n"
        '    assert client.get("/shop/").status_code == 404\n'
    )
    edit(project.path / "README.md", "Shop\n", "Shop\n\nIt sells wine.\n")
    project.must(uv(), "add", "--frozen", "--quiet", "pillow>=12")
    project.must(uv(), "add", "--frozen", "--quiet", "--dev", "httpx>=0.28")
    for file, text in {
        ".env": "\nSHOP_KEY=mine\n",
        ".env.example": "SHOP_KEY=\n",
        ".gitignore": "\nnotes/\n",
        "AGENTS.md": "- The shop closes at six.\n",
        "README.md": "\n## The shop\n\nAda has the key.\n",
        "justfile": "\n# Look at the stock\nstock:\n    python manage.py check\n",
        "pyproject.toml": "\n[tool.coverage.report]\nskip_empty = true\n",
        "tests/settings.py": '\nSHOP_NAME = "The test"\n',
        "tests/test_production.py": "\n\ndef test_nothing_is_sold(port: int) -> None:\n"
        '    assert fetch(port, "/shop/", HTTPS)[0] == 404\n',
    }.items():
        append(project.path / file, text)


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


def switch(project: Project, answers: Answers, **variables: str) -> str:
    """Commit what was done, and change the answers; return what cruft printed."""
    commit(project.path, "A week of work")
    changed = {name: value for name, value in answers.items() if not project.is_(**{name: value})}
    # As docs/switching.md and the README of a project say it.
    return cruft(
        project.path, "update", "-y",
        "--variables-to-update", json.dumps(changed), **variables,
    )  # fmt: skip


@pytest.fixture(scope="session")
def begun(create: Create, tmp_path_factory: pytest.TempPathFactory) -> Create:
    """Return a function that puts a project into a folder, committed and then worked on."""
    made: dict[str, Project] = {}

    def begun(answers: Answers, folder: Path) -> Project:
        name = name_of(answers)
        if name not in made:
            project = create(answers, tmp_path_factory.mktemp("begun") / "project")
            git(project.path, "init", "--quiet")
            commit(project.path, "As it was created")
            work_on(project)
            made[name] = project
        return Project(shutil.copytree(made[name].path, folder), made[name].answers)

    return begun


@pytest.mark.parametrize(
    "move",
    [
        pytest.param(move, marks=pytest.mark.bake if move in EVERYDAY else ())
        for move in (*MOVES, *PLACE_MOVES)
    ],
    ids=name_of_move,
)
def test_move_gives_what_the_new_answers_give_and_keeps_the_work(
    move: tuple[Answers, Answers], begun: Create, tmp_path: Path
) -> None:
    before, after = move
    project = begun(before, tmp_path / "moved")
    machine = project.read(".env")
    expected = begun(after, tmp_path / "expected")
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()

    output = switch(project, after, HOME=str(home), TMPDIR=str(temporary))

    assert contents(project) == contents(expected), output
    assert project.read(".env") == machine
    assert {path.name for path in tmp_path.iterdir()} == {"moved", "expected", "home", "temporary"}
    assert list(home.iterdir()) == []
    # cookiecutter leaves its copies of the hooks there.
    assert {path.suffix for path in temporary.iterdir()} == {".py"}
    # What a conflict would leave is not committed by accident.
    for name in ("justfile.rej", "config/settings.py.orig"):
        git(project.path, "check-ignore", "--quiet", name)


@pytest.fixture(scope="session")
def tools(toolbox: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The programs of one project, for others that need no installation of their own."""
    return {
        "PATH": f"{toolbox.bin}{os.pathsep}{clean_environment()['PATH']}",
        "MYPY_CACHE_DIR": str(tmp_path_factory.mktemp("mypy")),
    }


@pytest.mark.parametrize("move", FEW, ids=name_of_move)
def test_moved_project_passes_its_lint_and_its_tests(
    move: tuple[Answers, Answers], begun: Create, tools: dict[str, str], tmp_path: Path
) -> None:
    before, after = move
    project = begun(before, tmp_path / "moved")
    switch(project, after)

    project.must("just", "lint", **tools)
    # The tests of what the answers give are the same, from wherever one comes.
    if move == next(other for other in FEW if other[1] == after):
        # Without live pages, the plugin would be there and not be configured.
        options = ["-p", "no:asyncio"] if after["realtime"] == "none" else []
        output = project.must("just", "test", "-q", "-p", "no:cacheprovider", *options, **tools)
        assert re.search(r"\b\d\d+ passed", output)


def test_site_of_a_week_becomes_one_with_a_live_chat(begun: Create, tmp_path: Path) -> None:
    project = begun(WSGI, tmp_path / "shop")
    switch(project, CHAT | {"deployment": "kubernetes"})

    project.install()
    project.must("just", "lint")
    output = project.must("just", "test", "-q", "-p", "no:cacheprovider")
    assert re.search(r"\b\d\d+ passed", output)


def test_difference_to_the_template_is_ones_own_work_and_no_secret(
    begun: Create, tmp_path: Path
) -> None:
    project = begun(CHAT | {"deployment": "compose"}, tmp_path / "shop")
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
    assert "SHOP_KEY=mine" not in run.stdout
    assert not any(secret in run.stdout for secret in secrets if secret)


def test_update_says_nothing_of_a_new_site(begun: Create, tmp_path: Path) -> None:
    project = begun(WSGI, tmp_path / "shop")

    assert "Your site is in" not in switch(project, WSGI | {"deployment": "systemd"})


def shell(commands: str, folder: Path, **variables: str) -> str:
    """Run commands as somebody types them; return what they printed."""
    run = subprocess.run(
        ["bash", "-ec", commands], cwd=folder, env=clean_environment() | variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    return run.stdout


def test_project_is_the_same_without_cruft(create: Create, bake: Bake, tmp_path: Path) -> None:
    assert contents(create(WSGI, tmp_path / "shop")) == contents(bake(**WSGI))


@pytest.mark.parametrize("made_of", ["release", "commit"])
def test_commands_of_the_readme_change_an_answer(
    made_of: str, template: Path, tmp_path: Path
) -> None:
    """In a project that cookiecutter made, with a name that a shell might take apart.

    It was made by the first command of README.md, or without a release, of a commit after it.
    The template has changed since then.
    """
    newer = shutil.copytree(template, tmp_path / ADDRESS.rpartition("/")[2])
    git(newer, "tag", VERSION)
    append(newer / EMITTED / "config" / "settings.py", "\n# After the release\n")
    commit(newer, "What comes after the release")
    readme = (TEMPLATE / "README.md").read_text(encoding="utf-8")
    (first,) = re.findall(r"^pip install uv && uvx (cookiecutter gh:.*)$", readme, re.M)
    first = first.replace(f"gh:org/{newer.name}", f"git+file://{newer}")
    if made_of == "commit":
        first = first.replace(f" --checkout {VERSION}", "")
    answers = {"project_name": "Bob's Bikes"} | WSGI
    given = shlex.join(f"{name}={value}" for name, value in answers.items())
    here = {"HOME": str(tmp_path)}
    shell(f"{sys.executable} -m {first} --no-input {given}", tmp_path, **here)
    project = Project(tmp_path / "bob_s_bikes", answers)
    git(project.path, "init", "--quiet")
    commit(project.path, "As it was made")
    assert ("After the release" in project.read("config/settings.py")) == (made_of == "commit")
    change(newer)
    commit(newer, "What comes after it")
    section = project.read("README.md").partition("## Changing an answer later")[2]
    assert f"such as {ADDRESS}\n" in section
    commands = section.split("```")[1].replace("TEMPLATE", str(newer))
    if made_of == "commit":
        (tells,) = re.findall(r"`(git -C .*?)` prints it", section)
        told = shell(tells, project.path, **here).strip()
        commands = commands.replace(f"--checkout {VERSION}", f"--checkout {told}")
    commands = commands.replace("uvx cruft", CRUFT).replace(
        "git commit", f"git {AUTHOR_WORDS} commit"
    )

    said = shell(commands, project.path)

    answers |= {"interface": "both", "realtime": "channels"}
    (tmp_path / "today").mkdir()
    given = json.dumps(answers)
    cruft(tmp_path / "today", "create", str(newer), "--no-input", "--extra-context", given)
    assert contents(project) == contents(Project(tmp_path / "today" / "bob_s_bikes", answers)), said


@pytest.mark.bake
def test_release_that_the_documents_name_is_the_newest() -> None:
    for name in ("README.md", "docs/switching.md"):
        named = re.findall(r"--checkout ([\w.]+)", (TEMPLATE / name).read_text(encoding="utf-8"))
        assert len(named) > 1
        assert set(named) == {VERSION}, name


def test_readme_names_the_version_and_an_answer_that_can_change(project: Project) -> None:
    section = project.read("README.md").partition("## Changing an answer later")[2]
    (changed,) = re.findall(r"--variables-to-update '(.*?)'", section)
    answers = {name: project.answers[name] for name in CHOICES}

    assert f"Version {VERSION} of" in section
    assert re.findall(r"--checkout ([\w.]+)", section) == [VERSION] * 2
    assert is_valid(answers | json.loads(changed))
    assert not project.is_(**json.loads(changed))
