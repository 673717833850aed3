"""Adds packages to a baked project, each as its own documentation says."""

import json
import re
import shutil
from pathlib import Path

from tests.combinations import CHOICES, TEMPLATE
from tests.project import Project, uv

HERE = Path(__file__).parent
TABLE = TEMPLATE / "docs" / "compat.md"
PAGE = TEMPLATE / "docs" / "accounts.md"
MARKS = "<!-- begin, written by pytest --write-tables -->\n", "<!-- end -->\n"

# Each row of the suite: its name in the table, and what is installed for it.
PACKAGES = {
    "django-allauth": ["django-allauth"],
    "djangorestframework": ["djangorestframework"],
    "django-ninja": ["django-ninja"],
    "django-debug-toolbar": ["django-debug-toolbar"],
    "django-cors-headers": ["django-cors-headers"],
    "django-htmx": ["django-htmx"],
    "django-filter": ["django-filter"],
    "django-import-export": ["django-import-export"],
    "django-simple-history": ["django-simple-history"],
    "django-guardian": ["django-guardian"],
    "django-axes": ["django-axes"],
    "django-silk": ["django-silk"],
    "django-redis": ["django-redis"],
    "django-tasks-db": ["django-tasks-db"],
    "celery": ["celery[redis]"],
    "strawberry-graphql": ["strawberry-graphql[channels]"],
    "wagtail": ["wagtail"],
    "opentelemetry-instrumentation-django": [
        "opentelemetry-sdk",
        "opentelemetry-instrumentation-django",
        "opentelemetry-instrumentation-asgi",
        "opentelemetry-instrumentation-wsgi",
    ],
    "django-anymail": ["django-anymail"],
}

# What a release does, in one process: each command would import all packages again. Then people
# for these tests; staff, so that they can log in where no package changes how.
PREPARE = """
from django.contrib.auth import get_user_model
from django.core.management import call_command
from extras.models import Book
from guardian.shortcuts import assign_perm

call_command("makemigrations", "extras")
call_command("migrate", interactive=False)
call_command("collectstatic", interactive=False)

for name in ("ada", "bob", "carol", "dave"):
    get_user_model().objects.create_user(
        name, f"{name}@shop.example", f"password-of-{name}",
        is_staff=True, is_superuser=name in ("ada", "bob"),
    )
Book.objects.create(title="cheap", price=1)
book = Book.objects.create(title="guarded")
assign_perm("view_book", get_user_model().objects.get(username="carol"), book)
"""


def blocks(text: str) -> list[str]:
    """Return the blocks of Python of a page."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def replace(project: Project, name: str, old: str, new: str) -> None:
    """Edit a file of the project, in which `old` has to stand once."""
    text = project.read(name)
    assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
    (project.path / name).write_text(text.replace(old, new))


def add_sign_up(project: Project) -> None:
    """Edit a project as docs/accounts.md says it; its commands are left."""
    page = PAGE.read_text(encoding="utf-8")
    settings, urls = blocks(page)
    layout, links = re.findall(r"^```html\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    # allauth's log-in is in the place of Django's.
    lines = project.read("config/urls.py").splitlines(keepends=True)
    old = ('    path("accounts/', f"from {project.slug}.users.login import ")
    kept = [line for line in lines if not line.startswith(old)]
    assert len(lines) - len(kept) == 4
    (project.path / "config" / "urls.py").write_text("".join(kept) + urls)
    with (project.path / "config" / "settings.py").open("a") as file:
        file.write(settings)
    templates = project.path / project.slug / "templates"
    (templates / "allauth" / "layouts").mkdir(parents=True)
    (templates / "allauth" / "layouts" / "base.html").write_text(layout)
    base = f"{project.slug}/templates/base.html"
    people = "      {% if user.is_authenticated %}\n"
    assert f"`{people.strip()}`" in page
    replace(project, base, people, links + people)
    (project.path / "tests" / "test_accounts.py").unlink()


def equip(project: Project, variables: dict[str, str]) -> None:
    """Install the packages into one environment, and edit the project for all of them."""
    names = [name for installed in PACKAGES.values() for name in installed]
    project.must(uv(), "add", "--quiet", *names)
    shutil.copytree(HERE / "extras", project.path / "extras")
    (project.path / "extras" / "migrations").mkdir()
    (project.path / "extras" / "migrations" / "__init__.py").touch()

    config = project.path / "config"
    # What people do as the pages say it, and then the rest.
    add_sign_up(project)
    _, _, section = project.read("README.md").partition("## Users, and background work\n")
    texts = {"settings.py": blocks(section)[0], "urls.py": ""}
    for name, text in texts.items():
        with (config / name).open("a") as file:
            file.write(text + (HERE / name).read_text())
    shutil.copy(HERE / "celery_app.py", config / "celery.py")
    with (config / "__init__.py").open("a") as file:
        file.write('from .celery import app as celery_app\n\n__all__ = ["celery_app"]\n')
    shutil.copy(HERE / "telemetry.py", config)
    shutil.copy(HERE / "policy.py", config)
    default = 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")\n'
    for name in ("wsgi.py", "asgi.py"):
        if (config / name).exists():
            replace(
                project, f"config/{name}", default,
                f"{default}\nfrom config.telemetry import instrument\n\ninstrument()\n",
            )  # fmt: skip
    if project.is_(realtime="channels"):
        replace(
            project, "config/routing.py", "websocket_urlpatterns = [\n",
            "from extras.schema import schema\n"
            "from strawberry.channels import GraphQLWSConsumer\n\n"
            "websocket_urlpatterns = [\n"
            '    path("ws/graphql/", GraphQLWSConsumer.as_asgi(schema=schema)),\n',
        )  # fmt: skip

    project.must("python", "manage.py", "shell", "-v", "0", "-c", PREPARE, **variables)


def versions(project: Project) -> dict[str, str]:
    """Return the version of each package, and Django's, as installed in the project."""
    code = (
        "import importlib.metadata, json, sys\n"
        "print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))"
    )
    found: dict[str, str] = json.loads(project.must("python", "-c", code, "django", *PACKAGES))
    return found


def write_table(
    rows: dict[str, str],
    not_yet: dict[str, str],
    versions: dict[str, str],
    tried: set[tuple[str, bool]],
    passed: set[tuple[str, str, bool]],
) -> None:
    """Put what works, and what does not yet, into docs/compat.md.

    `rows` and `not_yet` say what is done with a package. The cells of an interface that was not
    tried, with DEBUG and without, stay as they are.
    """
    before = {row[0]: row for row in read_table() if len(row) == 6}

    def cell(place: int, package: str, interface: str) -> str:
        if {(interface, False), (interface, True)} <= tried:
            both = {(package, interface, False), (package, interface, True)}
            return "yes" if both <= passed else "no"
        return before[package][place] if package in before else "no"

    heads = (
        ["package", "version", *(f"`{name}`" for name in CHOICES["interface"]), "what is done"],
        ["package", "version", "not yet for Django 6.1"],
    )
    works = [
        [
            package,
            versions[package],
            *(cell(place, package, name) for place, name in enumerate(CHOICES["interface"], 2)),
            done,
        ]
        for package, done in rows.items()
    ]
    lacks = [[package, versions[package], what] for package, what in not_yet.items()]
    made = "\n".join(
        "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *lines])
        for head, lines in zip(heads, (works, lacks), strict=True)
    )
    text = TABLE.read_text(encoding="utf-8")
    start, end = text.partition(MARKS[0])[0], text.partition(MARKS[1])[2]
    TABLE.write_text(start + MARKS[0] + made + MARKS[1] + end, encoding="utf-8")


def read_table() -> list[list[str]]:
    """Return the rows of both tables in docs/compat.md, each as its cells."""
    text = TABLE.read_text(encoding="utf-8").partition(MARKS[0])[2].partition(MARKS[1])[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines if not line.startswith("| ---")]
