"""A generated project, and what one does with it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cookiecutter.generate import generate_context
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context

from tests.combinations import CHOICES, TEMPLATE, Answers

# Tests of what the template writes that are no business of a project's owner. They are written
# like the project: with conditions in their names and in them.
INSIDE = TEMPLATE / "tests" / "inside"
PYTEST_INSIDE = (
    "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib",
    "-c", "pyproject.toml", "--rootdir", ".",
)  # fmt: skip

# What the tests run under must not leak into a project's own environment.
# With PYTHONDONTWRITEBYTECODE each process would compile all of Django anew.
LEAKS = ("VIRTUAL_ENV", "PYTHON", "PYTEST_", "COV_", "DJANGO_", "DATABASE_URL", "REDIS_URL",
         "WEB_CONCURRENCY", "PORT", "HOST", "UV_PROJECT", "UV_RUN")  # fmt: skip
PRODUCTION = {
    "DJANGO_SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz-0123456789abcdefghij",
    "DJANGO_ALLOWED_HOSTS": "localhost,127.0.0.1",
}


def uv() -> str:
    """Return the uv that runs these tests."""
    found = os.environ.get("UV") or shutil.which("uv")
    assert found, "uv is not on this machine: pip install uv"
    return found


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what belongs to these tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LEAKS)}
    # `uv run` puts this repository's tools in front; a project has its own.
    own = str(Path(os.environ.get("VIRTUAL_ENV", "/nowhere")) / "bin")
    kept["PATH"] = os.pathsep.join(
        folder for folder in kept["PATH"].split(os.pathsep) if folder != own
    )
    return kept


@dataclass(frozen=True)
class Project:
    """A project on disk: where it is, and the answers it was made of."""

    path: Path
    answers: Answers

    @property
    def slug(self) -> str:
        return self.answers["project_slug"]

    @property
    def bin(self) -> Path:
        """The folder of its installed programs."""
        return self.path / ".venv" / "bin"

    def is_(self, **answers: str) -> bool:
        """Return whether the project has all these answers."""
        return all(self.answers[name] == value for name, value in answers.items())

    def files(self) -> set[str]:
        """Return the names of all its files, as they were baked."""
        return {
            str(path.relative_to(self.path))
            for path in self.path.rglob("*")
            if path.is_file() and not {".venv", "__pycache__"} & set(path.parts)
        }

    def read(self, name: str) -> str:
        return (self.path / name).read_text(encoding="utf-8")

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment of a shell in which this project is activated."""
        base = clean_environment()
        return base | {"PATH": f"{self.bin}{os.pathsep}{base['PATH']}"} | variables

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project and return how it went; output and errors are one text."""
        return subprocess.run(
            command,
            cwd=self.path,
            env=self.environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )

    def must(self, *command: str, **variables: str) -> str:
        """Run a command that has to succeed and return its output."""
        run = self.run(*command, **variables)
        assert run.returncode == 0, f"{' '.join(command)}: {run.returncode}\n{run.stdout}"
        return run.stdout

    def install(self) -> None:
        """Install it as its first `uv run` would."""
        self.must(uv(), "sync", "--quiet")

    def write_inside_tests(self, folder: Path) -> Path:
        """Write the tests of tests/inside/ for this project's answers; return where they are."""
        asked = {"project_name", "project_slug", *CHOICES}
        answers = {name: value for name, value in self.answers.items() if name in asked}
        questions = generate_context(str(TEMPLATE / "cookiecutter.json"), extra_context=answers)
        context = {"cookiecutter": prompt_for_config(questions, no_input=True)}
        environment = create_env_with_context(context)
        # Where the project's own rules for tests hold; a package of a name that it has not.
        tests = folder / "tests" / "inside"
        for source in sorted(path for path in INSIDE.rglob("*") if path.is_file()):
            name = environment.from_string(str(source.relative_to(INSIDE))).render(context)
            if name.endswith(".py"):  # and not a cache, or one that is not wanted
                target = tests / name
                target.parent.mkdir(parents=True, exist_ok=True)
                text = environment.from_string(source.read_text(encoding="utf-8"))
                target.write_text(text.render(context), encoding="utf-8")
        return tests

    def pytest_inside(self, tests: Path, **variables: str) -> str:
        """Run such tests in the installed project, all of which must pass; return the output."""
        return self.must("python", *PYTEST_INSIDE, str(tests), **variables)


def production(project: Project) -> dict[str, str]:
    """Return the environment of production; nothing in it is connected to."""
    variables = dict(PRODUCTION)
    if project.is_(database="postgresql"):
        variables["DATABASE_URL"] = "postgresql://user:password@127.0.0.1:9/name"
    if not project.is_(realtime="none"):
        variables["REDIS_URL"] = "redis://127.0.0.1:9/0"
    return variables


def entry_modules(project: Project) -> list[str]:
    return [
        f"config.{name}"
        for name in ("wsgi", "asgi")
        if (project.path / "config" / f"{name}.py").exists()
    ]
