# The template updates this file: see serving/README.md.
"""`just startapp NAME`: Django's startapp, and the steps that usually follow it by hand.

It creates the app in the site's package, adds it to INSTALLED_APPS, and its test to tests/.
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
    """Create the app `name` in `package`, or raise CommandError and write nothing."""
    app = f"{package}.{name}"
    folder = Path(package, name)
    test = Path(f"tests/test_{name}.py")
    if test.exists():  # the project has such a file already, for example for accounts
        test = Path(f"tests/test_{name}_app.py")
    settings = SETTINGS.read_text(encoding="utf-8")
    # Those at the top of the list; the lines of an answer, such as the chat, stand below.
    lines = re.search(rf'(?:^    "{package}\.\w+",\n)+', settings, re.MULTILINE)
    if keyword.iskeyword(name) or name != name.lower() or not name.isascii():
        raise CommandError(f"{name!r} is not a valid app name. Use letters from a to z.")
    if name in apps.app_configs or folder.exists() or test.exists():
        raise CommandError(
            f"{name!r} is taken by {folder}, {test} or an app in INSTALLED_APPS. "
            "Use another name."
        )
    if not lines:
        raise CommandError(f'{SETTINGS} has no line with an app such as "{package}.users".')
    call_command("startapp", name, str(folder))

    (folder / "tests.py").unlink()
    test.write_text(TEST.format(app=app), encoding="utf-8")
    config = (folder / "apps.py").read_text(encoding="utf-8")
    config = re.sub(r"name = .*", f'name = "{app}"', config)
    (folder / "apps.py").write_text(config, encoding="utf-8")
    settings = f'{settings[: lines.end()]}    "{app}",\n{settings[lines.end() :]}'
    SETTINGS.write_text(settings, encoding="utf-8")
    # Django's files have unused imports, which are errors of `just lint`.
    subprocess.run(["ruff", "check", "--fix", "--quiet", folder], check=True)
    subprocess.run(["ruff", "format", "--quiet", folder, test], check=True)
    print(f"Created the app {folder}/ and its test {test}; added it to {SETTINGS}.")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    try:
        start_app(*sys.argv[1:])
    except CommandError as error:
        sys.exit(str(error))
