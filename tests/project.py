"""A generated project, and what one does with it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.combinations import Answers

# What the tests run under must not leak into a project's own environment.
LEAKS = ("VIRTUAL_ENV", "PYTHONPATH", "PYTEST_", "COV_", "DJANGO_", "DATABASE_URL", "REDIS_URL",
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
