"""Refuse answers that no working project can be made of, before anything is written.

cookiecutter loads this because cookiecutter.json names it in _extensions, and runs the check
when the last question is answered. It runs on whatever Python cookiecutter runs on: 3.8 and newer.
"""

from __future__ import annotations

import json
import keyword
import re
import sys
import unicodedata
from pathlib import Path

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension

# What a generated project imports at its top level. A package of the same name would hide it.
DEPENDENCIES = {
    "anyio", "asgiref", "ast_serialize", "attr", "attrs", "autobahn", "automat", "cbor2",
    "cffi", "channels", "channels_redis", "click", "constantly", "coverage", "cryptography",
    "daphne", "dj_database_url", "dj_email_url", "django", "django_cache_url",
    "django_stubs_ext", "dotenv", "environs", "gunicorn", "h11", "httptools", "hyperlink",
    "idna", "incremental", "iniconfig", "just", "librt", "marshmallow", "msgpack", "mypy",
    "mypy_django_plugin", "mypy_extensions", "mypyc", "packaging", "pathspec", "pluggy",
    "psycopg", "psycopg_binary", "py", "pycparser", "pygments", "pytest",
    "redis", "ruff", "servestatic", "service_identity", "sqlparse", "structlog", "twisted",
    "txaio", "typing_extensions", "ujson", "uvicorn", "uvloop", "watchfiles", "websockets",
    "zope",
}  # fmt: skip
# Names of the template's own packages, applications and folders.
OWN_NAMES = {
    "accounts", "admin", "auth", "chat", "config", "deploy", "events", "manage", "messages",
    "notifications", "serving", "settings", "site", "static", "staticfiles", "templates",
    "tests", "users", "welcome",
}  # fmt: skip
# Modules of the Pythons that a project can run on, 3.13 to 3.15. Written out, because they are not
# those of the Python that runs cookiecutter.
STANDARD_LIBRARY = {
    "abc", "annotationlib", "antigravity", "argparse", "array", "ast", "asyncio", "atexit",
    "base64", "bdb", "binascii", "bisect", "builtins", "bz2", "calendar", "cmath", "cmd",
    "code", "codecs", "codeop", "collections", "colorsys", "compileall", "compression",
    "concurrent", "configparser", "contextlib", "contextvars", "copy", "copyreg", "csv",
    "ctypes", "curses", "dataclasses", "datetime", "dbm", "decimal", "difflib", "dis",
    "doctest", "email", "encodings", "ensurepip", "enum", "errno", "faulthandler", "fcntl",
    "filecmp", "fileinput", "fnmatch", "fractions", "ftplib", "functools", "gc", "genericpath",
    "getopt", "getpass", "gettext", "glob", "graphlib", "grp", "gzip", "hashlib", "heapq",
    "hmac", "html", "http", "idlelib", "imaplib", "importlib", "inspect", "io", "ipaddress",
    "itertools", "json", "keyword", "linecache", "locale", "logging", "lzma", "mailbox",
    "marshal", "math", "mimetypes", "mmap", "modulefinder", "msvcrt", "multiprocessing",
    "netrc", "nt", "ntpath", "nturl2path", "numbers", "opcode", "operator", "optparse", "os",
    "pathlib", "pdb", "pickle", "pickletools", "pkgutil", "platform", "plistlib", "poplib",
    "posix", "posixpath", "pprint", "profile", "profiling", "pstats", "pty", "pwd",
    "py_compile", "pyclbr", "pydoc", "pydoc_data", "pyexpat", "queue", "quopri", "random", "re",
    "readline", "reprlib", "resource", "rlcompleter", "runpy", "sched", "secrets", "select",
    "selectors", "shelve", "shlex", "shutil", "signal", "site", "smtplib", "socket",
    "socketserver", "sqlite3", "sre_compile", "sre_constants", "sre_parse", "ssl", "stat",
    "statistics", "string", "stringprep", "struct", "subprocess", "symtable", "sys",
    "sysconfig", "syslog", "tabnanny", "tarfile", "tempfile", "termios", "test", "textwrap",
    "this", "threading", "time", "timeit", "tkinter", "token", "tokenize", "tomllib", "trace",
    "traceback", "tracemalloc", "tty", "turtle", "turtledemo", "types", "typing", "unicodedata",
    "unittest", "urllib", "uuid", "venv", "warnings", "wave", "weakref", "webbrowser", "winreg",
    "winsound", "wsgiref", "xml", "xmlrpc", "zipapp", "zipfile", "zipimport", "zlib", "zoneinfo",
}  # fmt: skip
# Words that have a special meaning only in some places; Python has had more with each release.
SOFT_KEYWORDS = {"case", "lazy", "match", "type"}

# Characters that reorder the text after them.
DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def slug_problem(slug: str) -> str | None:
    """Return why `slug` cannot be the project's package, or None."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", slug):
        return (
            "is not a Python package name. Answer lower-case letters, digits and single "
            "underscores, with a letter first, for example my_site."
        )
    if len(slug) > 40:
        return f"is {len(slug)} characters long. Answer one of 40 characters at most."
    if keyword.iskeyword(slug) or slug in SOFT_KEYWORDS:
        return "is a word of the Python language. Answer another name, for example my_site."
    if slug in STANDARD_LIBRARY:
        return (
            "is a module of Python's standard library, which this project would hide. "
            f"Answer another name, for example {slug}_site."
        )
    if slug in DEPENDENCIES or slug.startswith("pytest_"):
        return (
            "is a package that this project installs, which it would hide. "
            f"Answer another name, for example {slug}_site."
        )
    if slug in OWN_NAMES:
        return (
            "is a name that the project's own parts use. "
            f"Answer another name, for example {slug}_site."
        )
    return None


def name_problem(name: str) -> str | None:
    """Return why `name` cannot be the site's name, or None. Any letters and emoji will do."""
    if not name.strip():
        return "is empty. Answer the name that visitors see, for example My Site."
    # East Asian letters are two columns wide; the name stands on a line of the settings.
    width = sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in name)
    if width > 60:
        return f"is too long, {width} columns wide. Answer one of 60 at most."
    categories = {unicodedata.category(character) for character in name}
    if "Cs" in categories:  # how Python keeps bytes that it cannot read
        return (
            "has letters that did not arrive as UTF-8. Answer in English letters, or type "
            "`export LC_ALL=C.UTF-8` first."
        )
    if categories & {"Cc", "Zl", "Zp"}:
        return "has a line break or another control character in it. Answer one printable line."
    # Right-to-left and left-to-right overrides make a line of code read as another.
    if {unicodedata.bidirectional(character) for character in name} & DIRECTIONS:
        return "has an invisible character that changes the direction of text. Answer without it."
    refused = [character for character in '"\\{}<>' if character in name]
    if refused:
        return (
            f"has {' and '.join(refused)} in it, which has a special meaning in the project's "
            "files. Answer a name without it; an apostrophe is fine."
        )
    return None


def changed_variables(answers: dict[str, str]) -> list[str]:
    """Return the derived variables that are not what cookiecutter.json makes of the answers.

    Somebody gave them on the command line, and the project's parts would not fit together.
    """
    questions = Path(__file__).with_name("cookiecutter.json").read_text(encoding="utf-8")
    environment = Environment()
    return [
        name
        for name, expression in json.loads(questions).items()
        if name.startswith("__") and name not in ("__checked", "__prompts__")
        if answers[name] != environment.from_string(expression).render(cookiecutter=answers)
    ]


class UnfitAnswer(FailedHookException):
    """Its text is all that cookiecutter's command line prints before it exits with 1."""


def refuse_unfit(answers: dict[str, str]) -> str:
    """Return an empty string, or raise UnfitAnswer with a sentence for each unfit answer."""
    problems = []
    if problem := name_problem(answers["project_name"]):
        problems.append(f"project_name {answers['project_name']!r} {problem}")
    if problem := slug_problem(answers["project_slug"]):
        problems.append(f"project_slug {answers['project_slug']!r} {problem}")
    if answers["interface"] == "wsgi" and answers["realtime"] != "none":
        problems.append(
            f"realtime {answers['realtime']!r} needs connections that stay open, which interface "
            "'wsgi' cannot hold. Answer interface 'asgi' or 'both', or realtime 'none'."
        )
    if answers["deployment"] == "kubernetes" and answers["database"] == "sqlite":
        problems.append(
            "deployment 'kubernetes' runs copies of the site on several machines, and database "
            "'sqlite' is a file on one of them. Answer database 'postgresql', or deployment "
            "'compose' or 'systemd'."
        )
    problems += [
        f"{name} {answers[name]!r} cannot be set: it is derived from the answers. Answer only "
        "interface, realtime, database and deployment. (A replay may be of an older version "
        "of the template: then answer anew, without --replay.)"
        for name in changed_variables(answers)
    ]
    if problems:
        # A console that cannot show a character shows its escape instead of failing.
        encoding = sys.stdout.encoding or "ascii"
        raise UnfitAnswer("\n".join(problems).encode(encoding, "backslashreplace").decode(encoding))
    return ""


class CheckedAnswers(Extension):
    """Adds the filter that cookiecutter.json puts all answers through."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters["refuse_unfit"] = refuse_unfit
