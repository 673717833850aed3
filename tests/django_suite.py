"""Runs Django's own tests with a project's ASGI handler and middleware in Django's place.

`python django_suite.py PROJECT TESTS LABEL …`, with the project's Python, where TESTS is the
folder `tests` of Django's source distribution.
"""

import os
import runpy
import sys

import django

project, tests, *labels = sys.argv[1:]
setup = django.setup


def setup_with_subclasses(*arguments: object, **options: object) -> None:
    """Set Django up, then put the project's classes where Django's tests import its own."""
    setup(*arguments, **options)  # type: ignore[arg-type]
    import django.core.asgi
    import django.core.handlers.asgi
    from django.conf import settings
    from django.utils.module_loading import import_string

    # Those of the project, which Django's tests do not have.
    settings.MAX_PAGE_THREADS, settings.MAX_VIEW_THREADS = 40, 200
    settings.MAX_OTHER_THREADS = 100
    from serving.handler import Handler
    from serving.middleware import INLINE

    django.core.asgi.ASGIHandler = django.core.handlers.asgi.ASGIHandler = Handler
    for stock, inline in INLINE.items():
        module, _, name = stock.rpartition(".")
        setattr(sys.modules[module], name, import_string(inline))
    print(f"in place: Handler, {', '.join(INLINE)}")


django.setup = setup_with_subclasses
os.chdir(tests)
sys.path[:0] = [tests, project]
sys.argv = ["runtests.py", "--parallel", "1", "--verbosity", "0", *labels]
runpy.run_path("runtests.py", run_name="__main__")
