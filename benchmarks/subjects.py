"""What is compared: each subject is a project, the command that serves it, and one difference.

A subject that switches off a decision of this template is the emitted project with that one
thing changed, so that the decision shows what it is worth by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

PAGES = ("trivial", "page-sqlite", "page-postgresql")
STATIC = ("static-10k", "static-1m")
COSTS = ("memory", "start")
WSGI = (*PAGES, "blocking", *STATIC, *COSTS, "overload")
ASGI = (*PAGES, "async", "waiting", "blocking", *STATIC, *COSTS, "overload", "connections")

GUNICORN = "gunicorn --config config/gunicorn.conf.py"
UVICORN = "python -m config.uvicorn_conf"
TWO = {"WEB_CONCURRENCY": "2"}


@dataclass(frozen=True)
class Subject:
    """Something that serves the measured views."""

    name: str
    interface: Literal["wsgi", "asgi"]
    # How the project comes to be: a recipe of projects.py.
    recipe: Literal["wsgi", "asgi", "both", "stock", "template", "raw"]
    # Run by a shell in the project's folder; it listens on 127.0.0.1:$PORT.
    command: str
    # In what it differs from the subject named in `against`, to which its ratios refer.
    differs: str
    measures: tuple[str, ...]
    against: str = ""
    # Lines added to its settings, and variables to its environment.
    settings: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    # Lines added to gunicorn's emitted configuration.
    gunicorn: str = ""
    databases: tuple[str, ...] = ("sqlite", "postgresql")
    short: bool = False

    @property
    def module(self) -> str:
        """Return the ending of the modules that are written for this subject."""
        return "".join(letter if letter.isalnum() else "_" for letter in self.name)

    @property
    def kind(self) -> str:
        """Return what it belongs to, by which charts colour it."""
        if self.recipe in ("stock", "template", "raw"):
            return self.recipe
        return "switched" if self.against.startswith("emitted") else "emitted"


SUBJECTS = [
    # The emitted projects as they come.
    Subject(
        "emitted wsgi", "wsgi", "wsgi", GUNICORN,
        "as it comes", WSGI, "stock wsgi", variables=TWO, short=True,
    ),
    Subject(
        "emitted asgi", "asgi", "asgi", UVICORN,
        "as it comes", ASGI, "stock asgi", variables=TWO, short=True,
    ),
    Subject(
        "emitted both, gunicorn", "wsgi", "both", GUNICORN,
        "the half that serves pages, with Channels, Redis and PostgreSQL",
        ("trivial", "page-postgresql", "memory", "start", "overload"), "stock wsgi",
        variables=TWO, databases=("postgresql",),
    ),
    Subject(
        "emitted both, uvicorn", "asgi", "both", UVICORN,
        "the half that serves sockets, with Channels, Redis and PostgreSQL",
        ("trivial", "page-postgresql", "async", "memory", "start", "overload"), "stock asgi",
        variables=TWO, databases=("postgresql",),
    ),
    Subject(
        "emitted both, sockets", "asgi", "both", "python bench_uvicorn.py",
        "the same with the measured consumers in its routes",
        ("sockets",), "raw asgi",
        variables=TWO | {"BENCH_APP": "bench_sockets:application"}, databases=("postgresql",),
        short=True,
    ),
    # Each decision switched off by itself.
    Subject(
        "asgi, Django's handler", "asgi", "asgi", UVICORN,
        "FAST_ASGI = False: Django's handler, and no connection is kept", ASGI, "emitted asgi",
        settings='FAST_ASGI = False\nDATABASES["default"]["CONN_MAX_AGE"] = 0', variables=TWO,
    ),
    Subject(
        "asgi, no access log", "asgi", "asgi", UVICORN,
        "no access line for each request", ("trivial", "page-postgresql", "async"),
        "emitted asgi",
        settings='LOGGING["loggers"]["access"] = {"level": "WARNING"}', variables=TWO,
    ),
    Subject(
        "asgi, CONN_MAX_AGE=0", "asgi", "asgi", UVICORN,
        "a new database connection for each request, no pool",
        ("page-sqlite", "page-postgresql", "connections"), "emitted asgi",
        settings='DATABASES["default"]["CONN_MAX_AGE"] = 0\n'
        'DATABASES["default"].get("OPTIONS", {}).pop("pool", None)',
        variables=TWO,
    ),
    Subject(
        "asgi, 1 worker", "asgi", "asgi", UVICORN,
        "one process", ("trivial", "page-postgresql", "memory"), "emitted asgi",
        variables={"WEB_CONCURRENCY": "1"},
    ),
    Subject(
        "wsgi, no access log", "wsgi", "wsgi", GUNICORN,
        "no access line for each request", ("trivial", "page-postgresql"), "emitted wsgi",
        settings='LOGGING["loggers"]["access"] = {"level": "WARNING"}', variables=TWO,
    ),
    Subject(
        "wsgi, CONN_MAX_AGE=0", "wsgi", "wsgi", GUNICORN,
        "a new database connection for each request", ("page-sqlite", "page-postgresql"),
        "emitted wsgi", settings='DATABASES["default"]["CONN_MAX_AGE"] = 0', variables=TWO,
    ),
    Subject(
        "wsgi, gunicorn's worker", "wsgi", "wsgi", GUNICORN,
        "a worker takes all the connections it can get",
        ("trivial", "page-postgresql", "static-10k"), "emitted wsgi",
        gunicorn='worker_class = "gthread"', variables=TWO,
    ),
    Subject(
        "wsgi, no preload", "wsgi", "wsgi", GUNICORN,
        "every worker imports the site for itself", ("page-postgresql", "memory"),
        "emitted wsgi", gunicorn="preload_app = False", variables=TWO,
    ),
    Subject(
        "wsgi, 1 thread", "wsgi", "wsgi", GUNICORN,
        "each worker answers one request at a time",
        ("trivial", "page-postgresql", "blocking", "memory", "overload"), "emitted wsgi",
        gunicorn="threads = Worker.max_threads = 1", variables=TWO,
    ),
    Subject(
        "wsgi, 1 worker", "wsgi", "wsgi", GUNICORN,
        "one process", ("trivial", "page-postgresql", "blocking", "memory"), "emitted wsgi",
        variables={"WEB_CONCURRENCY": "1"},
    ),
    # `django-admin startproject` with DEBUG off, which serves no static files.
    Subject(
        "stock wsgi", "wsgi", "stock", "gunicorn -b 127.0.0.1:$PORT -w 2 mysite.wsgi",
        "startproject, the usual command", (*PAGES, "blocking", *COSTS, "overload"),
        "stock wsgi", short=True,
    ),
    Subject(
        "stock asgi", "asgi", "stock",
        "uvicorn mysite.asgi:application --port $PORT --workers 2",
        "startproject, the usual command",
        (*PAGES, "async", "waiting", "blocking", *COSTS, "overload", "connections"),
        "stock asgi", short=True,
    ),
    # Settings and commands as in the best known template; see TEMPLATE_SETTINGS.
    Subject(
        "best known wsgi", "wsgi", "template", "gunicorn -b 127.0.0.1:$PORT mysite.wsgi",
        "one sync worker; WhiteNoise and LocaleMiddleware, ATOMIC_REQUESTS, CONN_MAX_AGE=60",
        WSGI, "stock wsgi",
    ),
    Subject(
        "best known asgi", "asgi", "template",
        "gunicorn -b 127.0.0.1:$PORT -k uvicorn_worker.UvicornWorker mysite.asgi",
        "one uvicorn worker in gunicorn; settings as in best known wsgi", ASGI, "stock asgi",
    ),
    # The servers alone: what is the most that is left for Django?
    Subject(
        "raw wsgi", "wsgi", "raw",
        "gunicorn -b 127.0.0.1:$PORT -k gthread -w 2 --threads 4 raw_wsgi",
        "no Django: ten lines that answer from memory",
        ("trivial", *STATIC), "stock wsgi", databases=("sqlite",), short=True,
    ),
    Subject(
        "raw asgi", "asgi", "raw",
        "uvicorn raw_asgi:application --port $PORT --workers 2 --no-access-log "
        "--lifespan off --ws websockets-sansio",
        "no Django: ten lines that answer from memory",
        ("trivial", "async", *STATIC, "sockets"), "stock asgi", databases=("sqlite",),
        short=True,
    ),
]  # fmt: skip

# What ratios refer to where stock Django has nothing to show, by measure and interface.
REFERENCES = {
    ("static-10k", "wsgi"): "raw wsgi",
    ("static-1m", "wsgi"): "raw wsgi",
    ("static-10k", "asgi"): "raw asgi",
    ("static-1m", "asgi"): "raw asgi",
    ("sockets", "asgi"): "raw asgi",
}


def reference(subject: Subject, measure: str) -> str:
    """Return the name of the subject whose number is 1.00 in a measure."""
    if subject.against.startswith("emitted"):
        return subject.against
    return REFERENCES.get((measure, subject.interface), subject.against)
