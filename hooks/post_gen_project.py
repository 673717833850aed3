"""Finish the new project: its own secret, and no empty folder that its answers do not need.

Offline, and safe to run twice: an update of the template runs it again. A project works without
it, too: whoever does not trust hooks gives `--accept-hooks no`.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path

answers = json.loads({{ cookiecutter | tojson | tojson }})  # fmt: skip  # noqa: F821


def pyenv_hides_uv() -> bool:
    """Return whether `uv` will not be found in this folder, whose .python-version pyenv reads.

    For this process pyenv has put the Python of another folder into PATH and the variables.
    """
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    folders = os.environ["PATH"].split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if versions not in Path(folder).parents)
    environment = {**os.environ, "PATH": path}
    environment.pop("PYENV_VERSION", None)
    environment.pop("PYENV_DIR", None)
    uv = shutil.which("uv", path=path)
    if not uv:
        return False
    return subprocess.run([uv, "--version"], env=environment, capture_output=True).returncode != 0


# A folder that is not needed is made in __pycache__/ and has no file: a name may not be empty.
# Only what is empty is removed.
for parent in (Path(answers["project_slug"]), Path("serving"), Path("deploy")):
    cache = parent / "__pycache__"
    if cache.is_symlink():
        continue
    for folder, _, _ in os.walk(cache, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
with contextlib.suppress(OSError):
    Path("deploy").rmdir()

for environment in (Path(".env"), Path("deploy/.env")):
    example = environment.with_name(".env.example")
    if example.exists() and not environment.exists() and not environment.is_symlink():
        environment.touch(mode=0o600)
        text = example.read_text(encoding="utf-8")
        for name in ("DJANGO_SECRET_KEY", "POSTGRES_PASSWORD"):
            text = text.replace(f"\n{name}=\n", f"\n{name}={secrets.token_urlsafe(50)}\n")
        environment.write_text(text, encoding="utf-8")
        # `cruft update` and `cruft diff` make projects only to compare them, in a folder of
        # Python's tempfile.
        compared = "_commit" in answers and Path.cwd().parent.name.startswith("tmp")
        if environment == Path(".env") and not compared:
            first = ""
            if pyenv_hides_uv():
                print(
                    "\npyenv: your uv belongs to another Python than this project's, so it is "
                    "not found in its folder. The first line below installs uv for all Pythons."
                )
                first = "    uv tool install uv && pip uninstall --yes uv\n"
            print(
                f"\nYour site is in {answers['project_slug']}/. Commit it before you edit it, and "
                f"start it.\nUpdates of the template merge from that commit.\n\n{first}"
                f"    cd {answers['project_slug']}\n"
                '    git init && git add -A && git commit -m "As it was made"\n'
                "    uv run just dev\n"
            )
