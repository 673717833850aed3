"""Every combination of answers, read from the questions themselves."""

import itertools
import json
import tomllib
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent.parent
# The newest release, with which the README begins.
VERSION = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]["version"]
QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
CHOICES = {name: values for name, values in QUESTIONS.items() if isinstance(values, list)}
CHOICES = {name: values for name, values in CHOICES.items() if not name.startswith("_")}

type Answers = dict[str, str]


def is_valid(answers: Answers) -> bool:
    """Return whether a project can be made of `answers`.

    WSGI holds no connections open, and SQLite's file is on one machine.
    """
    return not (
        (answers["interface"] == "wsgi" and answers["realtime"] != "none")
        or (answers["deployment"] == "kubernetes" and answers["database"] == "sqlite")
    )


def name_of(answers: Answers) -> str:
    """Return the name of a combination, for example both-channels-sqlite-compose."""
    return "-".join(answers[name] for name in CHOICES if name in answers)


ALL = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
VALID = [answers for answers in ALL if is_valid(answers)]
REFUSED = [answers for answers in ALL if not is_valid(answers)]
# What the code of a project depends on. Where it runs only adds files beside the code
# (test_deployment_changes_no_code), so these are baked with the default for that.
SITES = [
    {name: value for name, value in answers.items() if name != "deployment"}
    for answers in VALID
    if answers["deployment"] == "none"
]

# Each interface with each kind of live page once, the databases in turn: for what does not
# depend on all three of them together.
PAIRWISE = [
    answers
    for answers in SITES
    if name_of(answers)
    in {
        "wsgi-none-sqlite",
        "asgi-none-sqlite",
        "asgi-channels-sqlite",
        "asgi-sse-postgresql",
        "both-none-postgresql",
        "both-channels-postgresql",
        "both-sse-sqlite",
    }
]
