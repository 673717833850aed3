"""Answers are data: the unfit are refused with a sentence, the others simply stand there."""

import ast
import html
import json
import keyword
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from local_extensions import slug_problem
from tests.combinations import CHOICES, REFUSED, TEMPLATE, name_of
from tests.conftest import Bake
from tests.project import Project, clean_environment

pytestmark = pytest.mark.bake


def cookiecutter(
    folder: Path,
    *options: str,
    typed: str | None = None,
    variables: dict[str, str] | None = None,
    **answers: str,
) -> subprocess.CompletedProcess[str]:
    """Run the real command in `folder`; with `typed`, a person answers instead."""
    settings = folder.parent / "cookiecutter.yaml"
    settings.write_text(
        json.dumps(
            {
                "replay_dir": str(folder.parent / "replay"),
                "cookiecutters_dir": str(folder.parent / "cc"),
            }
        )
    )
    return subprocess.run(
        [
            sys.executable, "-m", "cookiecutter", str(TEMPLATE),
            "--config-file", str(settings),
            *(["--no-input"] if typed is None else []),
            *options,
            *(f"{name}={answer}" for name, answer in answers.items()),
        ],
        cwd=folder,
        env=clean_environment() | (variables or {}),
        input=typed,
        capture_output=True,
        text=True,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to generate in."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def assert_refused(
    run: subprocess.CompletedProcess[str], folder: Path, about: str, *words: str
) -> None:
    """Check that there is one clear sentence, nothing else, and nothing on disk."""
    assert run.returncode == 1
    assert run.stderr == ""
    sentence = next(line for line in reversed(run.stdout.splitlines()) if f"{about} " in line)
    sentence = sentence[sentence.index(about) :]
    assert "Answer" in sentence
    for word in words:
        assert word in sentence
    assert list(folder.iterdir()) == []
    assert {path.name for path in folder.parent.iterdir()} <= {"here", "cookiecutter.yaml"}


@pytest.mark.parametrize(
    ("slug", "reason"),
    [
        ("", "not a Python package name"),
        ("My_Site", "not a Python package name"),
        ("my-site", "not a Python package name"),
        ("my site", "not a Python package name"),
        ("my__site", "not a Python package name"),
        ("_site", "not a Python package name"),
        ("1site", "not a Python package name"),
        ("sité", "not a Python package name"),
        ("../outside", "not a Python package name"),
        ("/tmp/outside", "not a Python package name"),
        ("a/b", "not a Python package name"),
        ("..", "not a Python package name"),
        (".", "not a Python package name"),
        ("a\nb", "not a Python package name"),
        ("a\n", "not a Python package name"),
        ("$(id)", "not a Python package name"),
        ("\u0430bc", "not a Python package name"),
        ("x" * 41, "41 characters long"),
        ("class", "word of the Python language"),
        ("match", "word of the Python language"),
        ("lazy", "word of the Python language"),
        ("json", "standard library"),
        ("django", "installs"),
        ("channels", "installs"),
        ("uvicorn", "installs"),
        ("pytest_django", "installs"),
        ("config", "own parts"),
        ("tests", "own parts"),
        ("chat", "own parts"),
        ("manage", "own parts"),
        ("test", "standard library"),
    ],
)  # fmt: skip
def test_slug_is_refused(folder: Path, slug: str, reason: str) -> None:
    assert_refused(cookiecutter(folder, project_slug=slug), folder, "project_slug", reason)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ('My "Site"', '"'),
        ("My \\ Site", "\\"),
        ("My { Site", "{"),
        ("My } Site", "}"),
        ("My <b>Site", "<"),
        ("My\nSite", "control character"),
        ("My\tSite", "control character"),
        ("My\x1b[31mSite", "control character"),
        ("My\u2028Site", "control character"),
        ("My \u202eetiS", "direction"),
        ("My\rSite", "control character"),
        ("My\x85Site", "control character"),
        ("x" * 61, "too long"),
        ("場" * 31, "too long"),
    ],
)
def test_name_is_refused(folder: Path, name: str, reason: str) -> None:
    run = cookiecutter(folder, project_name=name, project_slug="my_site")

    assert_refused(run, folder, "project_name", reason)


@pytest.mark.parametrize("answers", REFUSED, ids=name_of)
def test_combination_is_refused(folder: Path, answers: dict[str, str]) -> None:
    run = cookiecutter(folder, **answers)
    if answers["interface"] == "wsgi" and answers["realtime"] != "none":
        assert_refused(run, folder, "realtime", "'asgi' or 'both'")
    else:
        assert_refused(run, folder, "deployment", "'postgresql'")


@pytest.mark.parametrize(
    ("name", "value"), [("__channels", "yes"), ("__channels", "y"), ("__wsgi", "")]
)
def test_what_follows_from_the_answers_cannot_be_given(folder: Path, name: str, value: str) -> None:
    run = cookiecutter(folder, interface="wsgi", **{name: value})

    assert_refused(run, folder, name, "derived from the answers")


def test_check_of_the_answers_cannot_be_skipped(folder: Path) -> None:
    """cookiecutter shows a traceback as well, where a hook refuses."""
    run = cookiecutter(folder, interface="wsgi", realtime="channels", __checked="")

    assert run.returncode == 1
    assert run.stdout.splitlines()[-1].startswith("realtime 'channels' needs connections")
    assert list(folder.iterdir()) == []


def test_what_an_update_of_the_template_gives_again_is_taken(folder: Path) -> None:
    """Tools that update a project give all that was known of it, this too."""
    run = cookiecutter(folder, interface="asgi", __asgi="y", __wsgi="", __checked="")

    assert run.returncode == 0


def test_name_of_no_letters_asks_for_a_slug(folder: Path) -> None:
    assert_refused(cookiecutter(folder, project_name="🚀"), folder, "project_slug")


def test_every_unfit_answer_is_told_at_once(folder: Path) -> None:
    run = cookiecutter(
        folder, project_name='"', project_slug="Site", interface="wsgi", realtime="channels"
    )

    assert [line.split()[0] for line in run.stdout.splitlines()] == [
        "project_name",
        "project_slug",
        "realtime",
    ]


def test_typed_braces_are_refused_and_not_evaluated(folder: Path) -> None:
    typed = "{{ 7 * 7 }}\nmy_site\n1\n1\n1\n1\n"

    assert_refused(cookiecutter(folder, typed=typed), folder, "project_name", "{")


def test_slug_with_a_path_leaves_what_is_there_alone(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")

    for options in ([], ["--overwrite-if-exists"], ["--overwrite-if-exists", "--accept-hooks=no"]):
        cookiecutter(folder, *options, project_slug="../outside")
        assert [path.name for path in outside.iterdir()] == ["precious"]


def test_existing_folder_is_left_alone(folder: Path) -> None:
    (folder / "my_site").mkdir()
    (folder / "my_site" / "precious").write_text("mine")

    run = cookiecutter(folder)

    assert run.returncode != 0
    assert '"my_site" directory already exists' in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
    assert [path.name for path in (folder / "my_site").iterdir()] == ["precious"]


def test_generating_again_keeps_the_secret_and_the_settings_of_the_machine(folder: Path) -> None:
    assert cookiecutter(folder).returncode == 0
    environment = folder / "my_site" / ".env"
    environment.write_text(environment.read_text() + "PORT=9000\n")
    before = environment.read_text()

    assert cookiecutter(folder, "--overwrite-if-exists").returncode == 0

    assert environment.read_text() == before


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Bob's Bikes", "bob_s_bikes"),
        ("Café Zoë", "cafe_zoe"),
        ("Мой сайт", "moi_sait"),
        ("日本語サイト", "ri_ben_yu_saito"),
        ("Rocket 🚀 & 100% #1 $HOME `id` $(id) | : -", "rocket_100_1_home_id_id"),
        ("# yes: [no]", "yes_no"),
    ],
)  # fmt: skip
def test_name_in_any_language_simply_stands_there(
    bake: Bake, toolbox: Project, name: str, slug: str
) -> None:
    project = bake(project_name=name, interface="both", realtime="channels")

    assert project.path.name == slug
    for file in project.files():
        if file.endswith(".py"):
            ast.parse(project.read(file))
    assert tomllib.loads(project.read("pyproject.toml"))["project"]["description"] == name
    assert f" · {name}</title>" in html.unescape(project.read(f"{slug}/templates/base.html"))
    ruff = str(toolbox.bin / "ruff")
    project.must(ruff, "format", "--no-cache", "--check")
    project.must(ruff, "check", "--no-cache")


INJECTION = "'; $(touch /tmp/x) `id` # & | %0a $IFS ' */ --"


@pytest.mark.parametrize("deployment", CHOICES["deployment"])
def test_name_is_no_code_wherever_the_site_runs(deployment: str, bake: Bake) -> None:
    answers = {"interface": "both", "realtime": "sse", "database": "postgresql"}
    usual = bake(project_name="Bob", project_slug="bob", deployment=deployment, **answers)
    named = bake(project_name=INJECTION, project_slug="bob_2", deployment=deployment, **answers)

    for file in usual.files():
        there = file.replace("bob", "bob_2")
        text = named.read(there)
        assert text.count("\n") == usual.read(file).count("\n"), there
        # In no file that a shell or a proxy reads, and in others only where it is text.
        for line in text.splitlines():
            if INJECTION not in html.unescape(line):
                continue
            if there.endswith(".yaml"):
                assert line.startswith("# "), there
            else:
                assert there.endswith((".md", ".html", "settings.py", "pyproject.toml")), there
        if there.endswith((".yaml", ".yml")):
            assert len([*yaml.safe_load_all(text)]) == len([*yaml.safe_load_all(usual.read(file))])
    settings = ast.parse(named.read("config/settings.py"))
    assert INJECTION in (ast.get_docstring(settings) or "")
    assert "touch" not in ast.unparse(settings.body[1:])  # type: ignore[arg-type]
    assert not Path("/tmp/x").exists()


def test_longest_slug_is_formatted_as_well(bake: Bake, toolbox: Project) -> None:
    for slug in ("a" * 40, "z" * 40):
        project = bake(
            project_slug=slug, interface="both", realtime="channels", database="postgresql"
        )
        ruff = str(toolbox.bin / "ruff")
        project.must(ruff, "format", "--no-cache", "--check")
        project.must(ruff, "check", "--no-cache")


def test_no_installed_package_can_be_hidden(toolbox: Project) -> None:
    """The list of refused names keeps up with what the projects install."""
    output = toolbox.must(
        "python", "-c",
        "import importlib.metadata as m; print(*m.packages_distributions())",
    )  # fmt: skip
    names = {name for name in output.split() if re.fullmatch(r"[a-z][a-z0-9_]*", name)}
    assert {"django", "channels", "psycopg"} <= names

    assert {name for name in names if not slug_problem(name)} == set()


def test_no_module_of_python_and_no_word_of_it_can_be_hidden() -> None:
    """The lists are the same on every Python, and keep up with the one of these tests."""
    names = {*sys.stdlib_module_names, *keyword.kwlist, *keyword.softkwlist}

    assert {name for name in names if not slug_problem(name)} == set()


def test_hook_and_check_run_on_the_python_of_the_user() -> None:
    """cookiecutter runs them with its own Python, 3.8 or newer."""
    for file in [*(TEMPLATE / "hooks").glob("*.py"), TEMPLATE / "local_extensions.py"]:
        source = file.read_text(encoding="utf-8")
        source = source.replace("{{ cookiecutter | tojson | tojson }}", "''")
        ast.parse(source, feature_version=(3, 8))


def test_person_is_asked_in_words(folder: Path) -> None:
    run = cookiecutter(folder, typed="Corner Shop\n\n3\n2\n2\n1\n")

    assert run.returncode == 0, run.stderr
    assert (folder / "corner_shop" / "config" / "serve.py").exists()
    for words in ("What is the name of the site?", "WSGI (gunicorn)", "Both, behind a proxy"):
        assert words in run.stdout
    assert "uv run just dev" in run.stdout
    assert not (folder / "my_site").exists()


# As pyenv's: it finds what pip installed to the Python that is wanted here, or else nothing.
SHIM = """#!/bin/sh
wanted=${PYENV_VERSION:-$(cat .python-version)}
case $wanted in %s*) echo uv 0 ;; *) echo "pyenv: uv: command not found" >&2; exit 127 ;; esac
"""


@pytest.mark.parametrize(("has_uv", "hidden"), [("3.11", True), ("3.13", False)])
def test_person_whose_pyenv_would_hide_uv_is_told_how_to_have_it(
    has_uv: str, hidden: bool, folder: Path, tmp_path: Path
) -> None:
    shim = tmp_path / "pyenv" / "shims" / "uv"
    real = tmp_path / "pyenv" / "versions" / has_uv / "bin" / "uv"
    for program, text in ((shim, SHIM % has_uv), (real, "#!/bin/sh\n")):
        program.parent.mkdir(parents=True)
        program.write_text(text)
        program.chmod(0o755)
    path = [str(real.parent), str(shim.parent), clean_environment()["PATH"]]

    run = cookiecutter(
        folder,
        variables={
            "PATH": ":".join(path),
            "PYENV_ROOT": str(tmp_path / "pyenv"),
            "PYENV_VERSION": has_uv,
        },
    )

    told = "    uv tool install uv && pip uninstall --yes uv\n    cd my_site\n" in run.stdout
    assert run.returncode == 0, run.stderr
    assert told == hidden
