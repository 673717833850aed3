"""The machinery of each combination: tests/inside/, run in an installed project."""

import re
from pathlib import Path

import pytest

from tests.combinations import SITES, Answers, name_of
from tests.conftest import Bake
from tests.project import PYTEST_INSIDE
from tests.services import PostgreSQL

pytestmark = pytest.mark.project


# On SQLite they run after changes of the settings, below.
@pytest.mark.parametrize(
    "answers",
    [
        answers
        for answers in SITES
        if answers["database"] == "postgresql" or answers["interface"] == "wsgi"
    ],
    ids=name_of,
)
def test_what_it_stands_on_is_tested_inside_it(
    answers: Answers, install: Bake, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """On the database that it is served with; its owner's tests on both."""
    project = install(**answers)
    variables = {}
    if project.is_(database="postgresql"):
        server: PostgreSQL = request.getfixturevalue("postgresql")
        project.pytest_inside(Path("tests"), DATABASE_URL=server.new_database())
        variables["DATABASE_URL"] = server.new_database()

    output = project.pytest_inside(project.write_inside_tests(tmp_path), **variables)

    assert re.search(r"^\d+ passed", output, re.M)
    assert not re.search(r"\d+ skipped", output)


ATOMIC_REQUESTS = "DATABASES['default']['ATOMIC_REQUESTS'] = True\n"
# As Django's documentation says: after the sessions, and addresses that begin with a language
# (a language that stands for another, "en-us", makes addresses that Django does not find).
LANGUAGES = """
LANGUAGE_CODE = "en"
MIDDLEWARE.insert(4, "django.middleware.locale.LocaleMiddleware")
ROOT_URLCONF = "changed_urls"
"""
LANGUAGES_URLS = """
from django.conf.urls.i18n import i18n_patterns
from django.urls import path
from config.urls import handler500 as handler500, urlpatterns as all_of_them
from corner_shop.welcome import urls, views

def is_page(one):
    return str(one.pattern) in {"accounts/login/", "accounts/", "admin/"}

home = path("", views.home, name="home")
pages = filter(is_page, all_of_them)
others = [
    one
    for one in all_of_them
    if not is_page(one) and getattr(one, "urlconf_module", None) is not urls
]
# What a proxy sends to ASGI has no language.
urlpatterns = [*i18n_patterns(home, *pages), *urls.urlpatterns[1:], *others]
"""


# One project for each kind of async code.
@pytest.mark.parametrize(
    "answers",
    [
        answers
        for answers in SITES
        if name_of(answers) in ("asgi-none-sqlite", "asgi-sse-sqlite", "both-channels-sqlite")
    ],
    ids=name_of,
)
@pytest.mark.parametrize("change", [ATOMIC_REQUESTS, LANGUAGES], ids=["atomic", "languages"])
def test_its_own_tests_pass_after_a_usual_change_of_the_settings(
    answers: Answers, change: str, install: Bake, tmp_path: Path
) -> None:
    (tmp_path / "changed.py").write_text(f"from tests.settings import *\n{change}")
    (tmp_path / "changed_urls.py").write_text(LANGUAGES_URLS)

    project = install(**answers)
    inside = project.write_inside_tests(tmp_path)
    # It starts processes, with the settings of the site.
    (inside / "test_environment.py").unlink()
    for tests in (Path("tests"), inside):
        output = project.must(
            "python", *PYTEST_INSIDE, "--ds", "changed", str(tests), PYTHONPATH=f"{tmp_path}:."
        )
        assert re.search(r"\b\d+ passed", output)
