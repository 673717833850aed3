"""Every way in gives the same project: any cookiecutter, any Python, cruft, a replay, a zip.

So do people at a terminal, and no way needs the hook.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import test_switch
from tests.combinations import TEMPLATE, Answers, name_of
from tests.conftest import Bake
from tests.project import PRODUCTION, Project, clean_environment, uv
from tests.site import running
from tests.terminal import CONTROL_C, CONTROL_D, Terminal
from tests.test_switch import cruft, git

pytestmark = pytest.mark.bake

# A repository of the template as it stands here.
template = test_switch.template

# Together they have each folder once that answers bring, and lack it once; the first lacks all.
COMBINATIONS = [
    {"interface": "wsgi", "realtime": "none", "database": "sqlite", "deployment": "none"},
    {
        "interface": "both",
        "realtime": "channels",
        "database": "postgresql",
        "deployment": "kubernetes",
    },
    {"interface": "asgi", "realtime": "sse", "database": "sqlite", "deployment": "systemd"},
    {"interface": "both", "realtime": "none", "database": "postgresql", "deployment": "compose"},
]
# So new that a machine may have no way to get it: tried where it is.
NEWEST = "3.14"
FIND = ("python", "find", "--no-python-downloads")
IS_THERE = subprocess.run([uv(), *FIND, NEWEST], capture_output=True).returncode == 0
# The oldest cookiecutter runs on Pythons that the newest has left.
RELEASES = [
    *(("2.6", python) for python in ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")),
    *(("2.7", python) for python in ("3.10", "3.11", "3.12", "3.13")),
    *((release, NEWEST) for release in ("2.6", "2.7") if IS_THERE),
]
QUESTIONS = [f"[{number}/" for number in range(1, 1 + len(test_switch.CHOICES) + 2)]


def contents(project: Path, modes: bool = True) -> dict[str, tuple[int, bytes]]:
    """Return the mode and the content of every file and folder, without secrets."""
    found = {}
    for path in project.rglob("*"):
        content = b"" if path.is_dir() else path.read_bytes()
        if path.name == ".env":
            content = re.sub(rb"(?<==)\S{50,}", b"", content)
        found[str(path.relative_to(project))] = path.stat().st_mode * modes, content
    found.pop(".cruft.json", None)
    return found


def given(answers: Answers) -> list[str]:
    """Return answers as cookiecutter's command line takes them."""
    return [f"{name}={value}" for name, value in {"project_name": "Corner Shop", **answers}.items()]


class Maker:
    """Makes projects with cookiecutter, in folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.replays = folder / "replays"
        self.command = [sys.executable, "-m", "cookiecutter"]
        self._settings = folder / "cookiecutter.yaml"
        self._settings.write_text(
            json.dumps({"replay_dir": str(self.replays), "cookiecutters_dir": str(folder / "cc")})
        )

    def run(
        self, place: str, *arguments: str, of: Path | str = TEMPLATE
    ) -> subprocess.CompletedProcess[str]:
        """Run cookiecutter in the folder `place`, with the template `of`."""
        here = self.folder / place
        here.mkdir(exist_ok=True)
        return subprocess.run(
            [*self.command, "--config-file", str(self._settings), *arguments[:1], str(of),
             *arguments[1:]],
            cwd=here, env=clean_environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def make(self, place: str, *arguments: str, of: Path | str = TEMPLATE) -> Path:
        """Make a project so, and return where it is."""
        run = self.run(place, *arguments, of=of)
        assert run.returncode == 0, run.stdout
        (project,) = (self.folder / place).iterdir()
        return project

    def terminal(self, place: str, **variables: str) -> Terminal:
        """Let a person run it in the folder `place`."""
        here = self.folder / place
        here.mkdir()
        command = [*self.command, "--config-file", str(self._settings), str(TEMPLATE)]
        return Terminal(command, here, clean_environment() | variables)


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


Expected = Callable[[Answers], Project]


@pytest.fixture(scope="module")
def expected(bake: Bake) -> Expected:
    """Return a function that bakes some answers once, for comparison; nothing runs in it."""
    made: dict[str, Project] = {}

    def expected(answers: Answers) -> Project:
        return made.setdefault(name_of(answers), bake(**answers))

    return expected


def python_of(version: str) -> str:
    """Return how uv is told to take this Python. It does not see those that pyenv has."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    programs = sorted(pyenv.glob(f"{version}.*/bin/python"))
    if programs:
        return str(programs[-1])
    # In CI uv fetches it.
    found = (
        os.environ.get("CI")
        or not subprocess.run([uv(), *FIND, version], capture_output=True).returncode
    )
    if not found:
        pytest.skip(f"Python {version} is not on this machine: uv python install {version}")
    return version


def cookiecutter_of(release: str, python: str) -> list[str]:
    return [
        uv(), "tool", "run", "--quiet", "--python", python_of(python),
        "--from", f"cookiecutter=={release}.*", "cookiecutter",
    ]  # fmt: skip


@pytest.mark.parametrize(("release", "python"), RELEASES)
def test_any_cookiecutter_on_any_python_makes_the_same(
    release: str, python: str, maker: Maker, expected: Expected
) -> None:
    maker.command = cookiecutter_of(release, python)
    for answers in COMBINATIONS:
        project = maker.make(name_of(answers), "--no-input", *given(answers))
        assert contents(project) == contents(expected(answers).path)


def test_old_python_refuses_with_the_same_sentences(maker: Maker) -> None:
    answers = ("project_slug=type", "interface=wsgi", "realtime=sse", "__wsgi=")
    new = maker.run("new", "--no-input", *answers)
    maker.command = cookiecutter_of("2.6", "3.8")
    old = maker.run("old", "--no-input", *answers)

    assert old.returncode == new.returncode == 1
    assert old.stdout == new.stdout
    assert old.stdout.count("Answer") == 3
    assert not list((maker.folder / "old").iterdir())


@pytest.mark.parametrize("answers", COMBINATIONS, ids=name_of)
def test_cruft_creates_the_same(
    answers: Answers, expected: Expected, template: Path, tmp_path: Path
) -> None:
    extra = json.dumps({"project_name": "Corner Shop", **answers})
    cruft(tmp_path, "create", str(template), "--no-input", "--extra-context", extra)

    assert contents(tmp_path / "corner_shop") == contents(expected(answers).path)


@pytest.mark.parametrize("answers", COMBINATIONS, ids=name_of)
def test_replay_makes_the_same(answers: Answers, maker: Maker, expected: Expected) -> None:
    maker.make("first", "--no-input", *given(answers))
    (file,) = maker.replays.iterdir()
    kept = shutil.copy(file, maker.folder / "mine.json")

    replayed = maker.make("replayed", "--replay")
    from_file = maker.make("from_file", f"--replay-file={kept}")

    assert contents(replayed) == contents(from_file) == contents(expected(answers).path)


def test_replay_of_an_older_template_is_told_to_answer_anew(maker: Maker) -> None:
    maker.make("first", "--no-input", *given(COMBINATIONS[0]))
    (file,) = maker.replays.iterdir()
    file.write_text(file.read_text().replace("__pycache__/live", "not_chosen_live"))

    run = maker.run("replayed", "--replay")

    assert run.returncode == 1
    assert run.stdout.splitlines()[-1].startswith("__live_folder 'not_chosen_live' cannot be set")
    assert "without --replay" in run.stdout
    assert list((maker.folder / "replayed").iterdir()) == []


@pytest.mark.parametrize("answers", COMBINATIONS, ids=name_of)
def test_template_lies_anywhere(
    answers: Answers, maker: Maker, expected: Expected, template: Path
) -> None:
    """In a repository, as with `gh:`; in a folder with a name of blanks; in a zip."""
    spaced = shutil.copytree(template, maker.folder / "a checkout (1)" / "the gateway")
    archive = maker.folder / "gateway.zip"
    git(template, "archive", "--prefix=gateway-main/", f"--output={archive}", "HEAD")
    options = ("--no-input", *given(answers))

    cloned = maker.make("cloned", *options, of=f"git+file://{template}")
    from_spaced = maker.make("from_spaced", *options, of=spaced)
    from_zip = maker.make("from_zip", *options, of=archive)

    assert contents(cloned) == contents(from_spaced) == contents(expected(answers).path)
    # cookiecutter does not take the modes of files from a zip.
    assert contents(from_zip, modes=False) == contents(expected(answers).path, modes=False)


def test_no_command_needs_a_file_that_can_be_executed(expected: Expected) -> None:
    """Made from a zip, a script cannot: commands name its interpreter."""
    project = expected(COMBINATIONS[2])

    for name in project.files():
        assert not re.search(r"(?<!bash )deploy/systemd/install\.sh [a-z$]", project.read(name)), (
            name
        )


@pytest.mark.parametrize("answers", COMBINATIONS, ids=name_of)
def test_without_the_hook_only_the_secret_is_missing(
    answers: Answers, maker: Maker, expected: Expected
) -> None:
    project = maker.make("here", "--no-input", *given(answers), "--accept-hooks=no")
    wanted = contents(expected(answers).path)
    found = contents(project)

    # A file without a condition in its name would be there.
    assert not [name for name in wanted if "__pycache__" in Path(name).parts]
    secrets = {".env", "deploy/.env"} & expected(answers).files()
    assert {name for name in wanted if name not in found} == secrets
    assert found == found | {name: wanted[name] for name in wanted if name not in secrets}
    # Empty folders, where git, Docker and all tools look past them.
    for name in found.keys() - wanted.keys():
        assert (project / name).is_dir()
        assert "__pycache__" in Path(name).parts or (project / name) == project / "deploy"
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    assert set(git(project, "ls-files").splitlines()) == expected(answers).files() - secrets


def test_without_the_hook_the_project_works(maker: Maker, toolbox: Project, tmp_path: Path) -> None:
    answers = COMBINATIONS[0]
    path = maker.make("here", "--no-input", *given(answers), "--accept-hooks=no")
    project = Project(path, {"project_slug": "corner_shop", **answers})
    installed = {"PATH": f"{toolbox.bin}{os.pathsep}{clean_environment()['PATH']}"}

    project.must("just", "lint", **installed)
    with running(project, ["just", "dev"], tmp_path / "log", **installed) as site:
        assert site.get("/").status_code == 200
    served = project.run("just", "serve", **installed)

    assert served.returncode != 0
    assert "DJANGO_SECRET_KEY is not set." in served.stdout
    assert "copy .env.example to .env" in served.stdout
    assert "Traceback" not in served.stdout
    project.must("just", "manage", "check", **installed, **PRODUCTION, DJANGO_DEBUG="false")


def test_folders_of_an_owner_stay_when_it_is_made_again(maker: Maker) -> None:
    """With -f, and other answers; whatever they are called."""
    project = maker.make("here", "--no-input", *given(COMBINATIONS[1]))
    own = [
        project / folder / name / "mine.txt"
        for folder in (".", "serving", "corner_shop")
        for name in ("not_chosen_mine", "not_chosen_live", "__pycache__/chat", "__pycache__/live")
    ]
    for path in own:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    elsewhere = maker.folder / "elsewhere"
    (elsewhere / "empty").mkdir(parents=True)
    (project / "deploy" / "__pycache__").symlink_to(elsewhere)

    maker.make("here", "--no-input", *given(COMBINATIONS[0]), "--overwrite-if-exists")

    assert [path for path in own if not path.exists()] == []
    assert (elsewhere / "empty").is_dir()


def test_enter_all_through_gives_the_defaults(maker: Maker, bake: Bake) -> None:
    terminal = maker.terminal("here")
    for question in QUESTIONS:
        terminal.type("\n", after=question)

    assert terminal.wait() == 0, terminal.text
    assert "uv run just dev" in terminal.text
    project = maker.folder / "here" / "my_site"
    assert contents(project) == contents(bake(project_name="My Site").path)


def test_wrong_number_is_asked_again(maker: Maker, expected: Expected) -> None:
    terminal = maker.terminal("here")
    terminal.type("Corner Shop\n", after=QUESTIONS[0])
    terminal.type("\n", after=QUESTIONS[1])
    for wrong in ("4", "0", "-1", "two", "asgi"):
        terminal.type(f"{wrong}\n", after="[1/2/3] (1): ")
        terminal.type("", after="Please select one of the available options")
    for number, question in zip("2213", QUESTIONS[2:], strict=False):
        terminal.type(f"{number}\n", after=question)
    for question in QUESTIONS[6:]:
        terminal.type("\n", after=question)

    assert terminal.wait() == 0, terminal.text
    project = maker.folder / "here" / "corner_shop"
    assert contents(project) == contents(expected(COMBINATIONS[2]).path)


@pytest.mark.parametrize("keys", [CONTROL_C, CONTROL_D], ids=["ctrl_c", "ctrl_d"])
@pytest.mark.parametrize("answered", [0, 3, len(QUESTIONS) - 1])
def test_who_stops_half_way_leaves_nothing(keys: str, answered: int, maker: Maker) -> None:
    terminal = maker.terminal("here")
    for question in QUESTIONS[:answered]:
        terminal.type("\n", after=question)
    terminal.type(keys, after=QUESTIONS[answered])

    assert terminal.wait() == 1
    assert terminal.text.rstrip().endswith("Aborted!")
    assert "Traceback" not in terminal.text
    assert list((maker.folder / "here").iterdir()) == []


ASCII = {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
# Python of its own takes C for UTF-8; here it may not.
NO_UTF_8 = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("variables", [ASCII, NO_UTF_8], ids=["ascii", "c"])
def test_terminal_without_utf_8_is_no_obstacle(
    variables: dict[str, str], maker: Maker, bake: Bake
) -> None:
    terminal = maker.terminal("here", **variables)
    for question in QUESTIONS:
        terminal.type("\n", after=question)

    assert terminal.wait() == 0, terminal.text
    assert terminal.text.isascii()
    project = maker.folder / "here" / "my_site"
    assert contents(project) == contents(bake(project_name="My Site").path)


def test_name_that_the_terminal_garbles_is_refused(maker: Maker) -> None:
    terminal = maker.terminal("here", **NO_UTF_8)
    for question, name in zip(QUESTIONS, ["Café", *[""] * len(QUESTIONS)], strict=False):
        terminal.type(f"{name}\n", after=question)

    assert terminal.wait() == 1
    assert "LC_ALL=C.UTF-8" in terminal.text.splitlines()[-1]
    assert "Traceback" not in terminal.text
    assert list((maker.folder / "here").iterdir()) == []
