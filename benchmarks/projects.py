"""Makes the projects of the subjects and starts them, with the measured views inside."""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil

from benchmarks.limits import NoAnswerError
from benchmarks.subjects import Subject
from tests import services
from tests.combinations import TEMPLATE
from tests.project import PRODUCTION, Project, clean_environment, uv
from tests.site import Site, cmdline, running

HERE = Path(__file__).resolve().parent
EMITTED = {
    "wsgi": {"interface": "wsgi"},
    "asgi": {"interface": "asgi"},
    "both": {"interface": "both", "realtime": "channels"},
}
# The same releases as in the emitted projects; uvicorn with all that makes it fast.
STOCK_PACKAGES = [
    "django>=6.1,<6.2", "gunicorn>=27,<28", "uvicorn[standard]>=0.54,<1",
    "psycopg[binary]>=3.3,<4", "whitenoise>=6", "uvicorn-worker>=0.4",
]  # fmt: skip
STATIC_FILES = {"10k.css": 10 * 1024, "1m.css": 1024 * 1024}

EMITTED_SETTINGS = """\
from config.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "bench"]
ROOT_URLCONF = "bench_urls"
"""
EMITTED_URLS = """\
from django.urls import include, path

urlpatterns = [path("bench/", include("bench.urls")), path("", include("config.urls"))]
"""
# Stock projects get the emitted base.html and its stylesheet, so that the page is the same.
STOCK_SETTINGS = """\
import os
from urllib.parse import urlsplit

from mysite.settings import *

DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
INSTALLED_APPS = [*INSTALLED_APPS, "bench"]
ROOT_URLCONF = "bench_urls"
TEMPLATES[0]["DIRS"] = [BASE_DIR / "base" / "templates"]
STATICFILES_DIRS = [BASE_DIR / "base" / "static"]
STATIC_ROOT = BASE_DIR / "staticfiles"
if (url := urlsplit(os.environ["DATABASE_URL"])).scheme == "postgresql":
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:],
            "USER": url.username, "HOST": url.hostname, "PORT": url.port,
        }
    }
else:
    DATABASES["default"]["NAME"] = url.path[1:]
"""
TEMPLATE_SETTINGS = """\
security, session, *others = MIDDLEWARE
MIDDLEWARE = [
    security, "whitenoise.middleware.WhiteNoiseMiddleware",
    session, "django.middleware.locale.LocaleMiddleware", *others,
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
DATABASES["default"]["ATOMIC_REQUESTS"] = True
DATABASES["default"]["CONN_MAX_AGE"] = 60
"""
STOCK_URLS = """\
from django.contrib import admin
from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [
    path("bench/", include("bench.urls")),
    path("", lambda request: HttpResponse("ok"), name="home"),
    path("accounts/", include("django.contrib.auth.urls")),
    path("admin/", admin.site.urls),
]
"""
# The emitted start, with an entry module of the subject's.
BENCH_UVICORN = """\
import os

from config import uvicorn_conf

uvicorn_conf.OPTIONS["app"] = os.environ["BENCH_APP"]

if __name__ == "__main__":
    uvicorn_conf.main()
"""
BENCH_SOCKETS = """\
from config.asgi import application, websockets

from bench.consumers import Broadcast, Chat, Echo
from django.urls import path

# Here nobody logs in, and all have one address.
websockets.users.max_anonymous = websockets.users.max_of_address = 1_000_000
# Before its last entry, which matches everything.
websockets.router.routes[:0] = [
    path("ws/bench/echo/", Echo.as_asgi()),
    path("ws/bench/broadcast/", Broadcast.as_asgi()),
    path("ws/bench/chat/<slug:room>/", Chat.as_asgi()),
]
"""
# In one process, since each would load Django anew. It prints where the static files are.
FILL = f"""
from bench.models import fill
from django.core.management import call_command
from django.templatetags.static import static

call_command("migrate", run_syncdb=True, interactive=False, verbosity=0)
fill()
call_command("collectstatic", interactive=False, verbosity=0)
for name in {list(STATIC_FILES)}:
    print(static("bench/" + name))
"""


@dataclass(frozen=True)
class Prepared:
    """An installed project with its database filled: ready to be started."""

    project: Project
    variables: dict[str, str]
    # Where the measured static files are, by their names.
    static: dict[str, str]
    database: str


@dataclass
class Server:
    """A subject that runs."""

    subject: Subject
    prepared: Prepared
    site: Site

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.site.port}{path}"

    def tree(self) -> list[psutil.Process]:
        """Return all its processes, the one that was started first."""
        root = psutil.Process(self.site.process.pid)
        return [root, *root.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """Return the processes that serve."""
        return [
            process
            for process in self.tree()[1:]
            if "resource_tracker" not in " ".join(cmdline(process))
        ]

    def ended(self) -> bool:
        return self.site.process.poll() is not None

    def cpu_times(self) -> dict[int, float]:
        """Return the processor time that each of its processes has used so far, in seconds."""
        found = {}
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                found[process.pid] = times.user + times.system
        return found

    def cpu_seconds(self) -> float:
        return sum(self.cpu_times().values())

    def mebibytes(self) -> float:
        """Return the memory of the tree, in which what processes share counts once (PSS)."""
        return sum(map(proportional_size, self.tree()))

    def settle(self) -> None:
        """Wait until all workers have started: until the processors are left alone."""
        deadline, before = time.monotonic() + 15, -1.0
        while time.monotonic() < deadline and (now := self.cpu_seconds()) - before > 0.02:
            before = now
            time.sleep(0.25)

    def drain(self, seconds: float = 20) -> None:
        """Wait until the requests of clients that are gone have been worked off.

        Those that a busy server has not even accepted count too: whoever comes next stands
        in line behind them. It need not take any processor time to work them off.
        """
        deadline = time.monotonic() + seconds
        while left := connections_to(self.site.port):
            if time.monotonic() > deadline:
                raise NoAnswerError(
                    f"{left} requests given up {seconds:g} s ago are not worked off"
                )
            time.sleep(0.02)


def connections_to(port: int) -> int:
    """Return how many connections a server on loopback has not closed."""
    # Established, being opened, and closed by the other end only.
    alive = {"01", "03", "08"}
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(
        1
        for _, local, _, state, *_ in lines
        if state in alive and int(local.rpartition(":")[2], 16) == port
    )


def proportional_size(process: psutil.Process) -> float:
    """Return the PSS of a process in MiB, 0 if it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


class Workshop:
    """Projects and services, each made once when first asked for, gone at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = ExitStack()
        self.projects: dict[str, Project] = {}
        self.ready: dict[tuple[str, str], Prepared] = {}
        self.starts = 0

    def __enter__(self) -> "Workshop":
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def new_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    @cached_property
    def postgresql(self) -> services.PostgreSQL:
        server = self.stack.enter_context(services.postgresql(self.new_folder("postgresql")))
        # No superuser, for whom PostgreSQL keeps the last three connections: those are for
        # counting the others.
        server.query("create role site login", "postgres")
        return server

    @cached_property
    def redis(self) -> str:
        return self.stack.enter_context(services.redis(self.new_folder("redis")))

    def prepare(self, subject: Subject, database: str) -> Prepared:
        """Return the project of a subject on a database; also write the subject's modules."""
        # Both must agree with the database only where a project is emitted for one.
        recipe = subject.recipe
        name = f"{recipe}-{database}" if recipe in EMITTED else recipe
        if name not in self.projects:
            made = self.bake(recipe, database) if recipe in EMITTED else self.stock(recipe)
            self.projects[name] = made
        project = self.projects[name]
        if (recipe, database) not in self.ready:
            self.ready[recipe, database] = self.fill(project, recipe, database)
        self.write_modules(project, subject)
        return self.ready[recipe, database]

    def bake(self, recipe: str, database: str, install: bool = True) -> Project:
        """Bake an emitted project and install what production needs of it."""
        answers = EMITTED[recipe] | {"database": database, "project_slug": "my_site"}
        folder = self.new_folder(f"{recipe}-{database}{'' if install else '-base'}")
        run(
            sys.executable, "-m", "cookiecutter", "--no-input", "--default-config",
            "--output-dir", folder, TEMPLATE, *[f"{k}={v}" for k, v in answers.items()],
        )  # fmt: skip
        project = Project(folder / "my_site", answers)
        if install:
            project.must(uv(), "sync", "--no-dev", "--quiet")
            self.add_bench(project, EMITTED_SETTINGS, EMITTED_URLS)
            (project.path / "bench_uvicorn.py").write_text(BENCH_UVICORN)
            (project.path / "bench_sockets.py").write_text(BENCH_SOCKETS)
        return project

    @cached_property
    def stock_environment(self) -> Path:
        """The virtual environment of all that is not emitted."""
        environment = self.folder / "stock-environment"
        run(uv(), "venv", "--quiet", "--python", sys.executable, environment)
        python = environment / "bin" / "python"
        run(uv(), "pip", "install", "--quiet", "--python", python, *STOCK_PACKAGES)
        return environment

    @cached_property
    def base(self) -> Path:
        """The folder of an emitted project's base.html and static files."""
        return self.bake("wsgi", "sqlite", install=False).path / "my_site"

    def stock(self, recipe: str) -> Project:
        """Make a project that is not emitted by this template."""
        project = Project(self.new_folder(recipe), {"project_slug": "mysite"})
        (project.path / ".venv").symlink_to(self.stock_environment)
        if recipe == "raw":
            shutil.copytree(HERE / "raw", project.path, dirs_exist_ok=True)
            write_static_files(project.path)
            return project
        project.must("django-admin", "startproject", "mysite", ".")
        for name in ("templates", "static"):
            shutil.copytree(self.base / name, project.path / "base" / name)
        # Only the base: the error and log-in pages are startproject's own.
        for page in (project.path / "base" / "templates").iterdir():
            if page.name != "base.html":
                shutil.rmtree(page) if page.is_dir() else page.unlink()
        own = TEMPLATE_SETTINGS if recipe == "template" else ""
        self.add_bench(project, STOCK_SETTINGS + own, STOCK_URLS)
        return project

    def add_bench(self, project: Project, settings: str, urls: str) -> None:
        """Put the measured views into a project."""
        shutil.copytree(HERE / "bench", project.path / "bench")
        write_static_files(project.path / "bench" / "static" / "bench")
        (project.path / "bench_settings.py").write_text(settings)
        (project.path / "bench_urls.py").write_text(urls)

    def fill(self, project: Project, recipe: str, database: str) -> Prepared:
        """Migrate and fill a database, and collect static files."""
        if recipe == "raw":
            return Prepared(project, {}, {name: f"/{name}" for name in STATIC_FILES}, "")
        variables = PRODUCTION | {"DJANGO_HTTPS": "false"}
        variables |= {"DJANGO_SETTINGS_MODULE": "bench_settings"}
        variables["DATABASE_URL"] = f"sqlite:///{project.path / 'bench.sqlite3'}"
        if database == "postgresql":
            variables["DATABASE_URL"] = self.new_database()
        if recipe == "both":
            variables["REDIS_URL"] = self.redis
        lines = project.must("python", "manage.py", "shell", "-c", FILL, **variables)
        static = dict(zip(STATIC_FILES, lines.split()[-len(STATIC_FILES) :], strict=True))
        name = variables["DATABASE_URL"].rpartition("/")[2]
        return Prepared(project, variables, static, name)

    def new_database(self) -> str:
        """Create a database that belongs to the role `site`; return its URL for that role."""
        url = self.postgresql.new_database()
        name = url.rpartition("/")[2]
        self.postgresql.query(f"alter database {name} owner to site", "postgres")
        return url.replace("postgres@", "site@")

    def write_modules(self, project: Project, subject: Subject) -> None:
        """Write the modules in which a subject differs from its project."""
        if subject.settings:
            text = f"from bench_settings import *\n\n{subject.settings}\n"
            (project.path / f"bench_settings_{subject.module}.py").write_text(text)
        if subject.gunicorn:
            text = f"{project.read('config/gunicorn.conf.py')}\n{subject.gunicorn}\n"
            (project.path / f"bench_{subject.module}.conf.py").write_text(text)

    def settings_of(self, subject: Subject, prepared: Prepared) -> dict[str, str]:
        """Return the environment of a subject."""
        variables = prepared.variables | dict(subject.variables)
        if subject.settings:
            variables["DJANGO_SETTINGS_MODULE"] = f"bench_settings_{subject.module}"
        return variables

    @contextmanager
    def start(self, subject: Subject, database: str) -> Iterator[Server]:
        """Run a subject on a database for as long as the block lasts."""
        prepared = self.prepare(subject, database)
        command = subject.command
        if subject.gunicorn:
            own = f"bench_{subject.module}.conf.py"
            command = command.replace("config/gunicorn.conf.py", own)
        self.starts += 1
        log = self.folder / f"{self.starts}.log"
        shell = ["/bin/sh", "-c", f"exec {command}"]
        variables = self.settings_of(subject, prepared)
        with running(prepared.project, shell, log, **variables) as site:
            server = Server(subject, prepared, site)
            server.settle()
            yield server


def run(*command: object) -> None:
    """Run a command that has to succeed; what it says is told only if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command[0]} failed: {done.stdout.strip()}"


def write_static_files(folder: Path) -> None:
    """Write stylesheets of exact sizes, the same every time, that compress like real ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in STATIC_FILES.items():
        chance = random.Random(name)
        text = "".join(
            f".part-{chance.randrange(10**6):06} {{ margin: {chance.randrange(99):02}px }}\n"
            for _ in range(size // 20)
        )
        (folder / name).write_text(text[: size - 1] + "\n")
