#!/usr/bin/env python
"""Django's command-line utility for administrative tasks."""

import os
import shlex
import sys


def main() -> None:
    """Run administrative tasks."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        import environs as environs  # a system's Python may have Django, but not this
        from django.core.management import execute_from_command_line
    except ModuleNotFoundError as error:
        arguments = shlex.join(sys.argv[1:])
        sys.exit(
            f"{error}. While you develop, type `uv run just manage {arguments}`. "
            f"In production, type `.venv/bin/python manage.py {arguments}`."
        )
    if sys.argv[1:2] == ["runserver"]:
        from config import environment

        if not environment.DEBUG:
            environment.stop("runserver is for development only. Run `uv run just dev`.")
{% if cookiecutter.__postgresql %}
    else:
        # Commands such as migrations may take longer than a page.
        os.environ.setdefault("DATABASE_TIMEOUT", "0")
{% endif %}
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
