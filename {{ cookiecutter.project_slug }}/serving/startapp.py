# The template updates this file: see serving/README.md.
"""`just startapp NAME`: Django's startapp, and what one does by hand after it.

The app is in the site's package and in INSTALLED_APPS, its test where the others are.
"""

import keyword
import os
import re
import subprocess
import sys
from pathlib import Path

import django
from django.apps import apps
from django.core.management import CommandError, call_command

SETTINGS = Path("config/settings.py")

TEST = """\
from django.apps import apps


def test_app_is_installed() -> None:
    assert apps.is_installed("{app}")
"""


def start_app(package: str, name: str) -> None:
    """Make the app `name` in `package`, or raise CommandError and write nothing."""
    app = f"{package}.{name}"
    folder = Path(package, name)
    test = Path(f"tests/test_{name}.py")
    if test.exists():  # the project has such tests of its own, for example of accounts
        test = Path(f"tests/test_{name}_app.py")
    settings = SETTINGS.read_text(encoding="utf-8")
    lines = re.findall(rf'^    "{package}\.\w+",\n', settings, re.MULTILINE)
    if keyword.iskeyword(name) or name != name.lower() or not name.isascii():
        raise CommandError(f"{name!r} is no name for an app. Take letters from a to z.")
    if name in apps.app_configs or folder.exists() or test.exists():
        raise CommandError(
            f"{name!r} is taken: by {folder}, {test} or an app in INSTALLED_APPS. "
            "Take another name."
        )
    if not lines:
        raise CommandError(f"{SETTINGS} has no line with an app of {package} alone.")
    # Refuses what else is no name.
    call_command("startapp", name, str(folder))

    (folder / "tests.py").unlink()
    test.write_text(TEST.format(app=app), encoding="utf-8")
    config = (folder / "apps.py").read_text(encoding="utf-8")
    config = re.sub(r"name = .*", f'name = "{app}"', config)
    (folder / "apps.py").write_text(config, encoding="utf-8")
    settings = settings.replace(lines[-1], f'{lines[-1]}    "{app}",\n')
    SETTINGS.write_text(settings, encoding="utf-8")
    # What is imported and not used yet would be an error of `just lint`.
    subprocess.run(["ruff", "check", "--fix", "--quiet", folder], check=True)
    subprocess.run(["ruff", "format", "--quiet", folder, test], check=True)
    print(f"{folder}/ is an app, {SETTINGS} has it, and {test} is its first test.")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    try:
        start_app(*sys.argv[1:])
    except CommandError as error:
        sys.exit(str(error))
