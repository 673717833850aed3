"""Every combination of answers, read from the questions themselves."""

import itertools
import json
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent.parent
QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
CHOICES = {name: values for name, values in QUESTIONS.items() if isinstance(values, list)}
CHOICES = {name: values for name, values in CHOICES.items() if not name.startswith("_")}

type Answers = dict[str, str]


def is_valid(answers: Answers) -> bool:
    """Return whether a project can be made of `answers`: WSGI holds no connections open."""
    return not (answers["interface"] == "wsgi" and answers["realtime"] != "none")


def name_of(answers: Answers) -> str:
    """Return the name of a combination, for example both-channels-sqlite."""
    return "-".join(answers[name] for name in CHOICES)


ALL = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
VALID = [answers for answers in ALL if is_valid(answers)]
REFUSED = [answers for answers in ALL if not is_valid(answers)]
