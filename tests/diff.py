"""What does a change of the template change in what users get?

    uv run python -m tests.diff REVISION [ANSWER=VALUE …]

bakes every combination of answers as the template stands here, committed or not, and as it was at
REVISION. Each difference is printed once, with the answers of the projects that have it. Answers
after the revision leave out all projects that have others. The projects stay, for other tools.
"""

import argparse
import difflib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter

from tests.combinations import TEMPLATE, Answers

NAME = "Corner Shop"
# They differ each time.
SECRETS = (".env", "deploy/.env")

type Change = tuple[str, str]


def questions(template: Path) -> dict[str, list[str]]:
    """Return the choices of each question of `template`."""
    given = json.loads((template / "cookiecutter.json").read_text(encoding="utf-8"))
    return {
        name: values
        for name, values in given.items()
        if isinstance(values, list) and not name.startswith("_")
    }


def combinations(template: Path) -> list[Answers]:
    choices = questions(template)
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


def name_of(answers: Answers) -> str:
    return "-".join(answers.values())


def agree(some: Answers, others: Answers) -> bool:
    """Return whether both answer the questions alike that both have."""
    return all(others.get(name, value) == value for name, value in some.items())


def bake(template: Path, folder: Path, wanted: Answers) -> None:
    """Bake all combinations that have the `wanted` answers and are not refused."""
    for answers in combinations(template):
        if not agree(wanted, answers):
            continue
        try:
            path = cookiecutter(
                str(template), no_input=True, output_dir=str(folder),
                extra_context={"project_name": NAME, **answers}, default_config=True,
            )  # fmt: skip
        except FailedHookException as error:
            if type(error) is FailedHookException:  # a hook, and no sentence on the answers
                raise
            continue
        for name in SECRETS:
            (Path(path) / name).unlink(missing_ok=True)
        Path(path).rename(folder / name_of(answers))


def start(template: Path, folder: Path, wanted: Answers) -> subprocess.Popen[bytes]:
    """Start to bake, in a process that imports the module of this template's questions."""
    code = "import sys, json, pathlib, tests.diff as d; a, b, c = sys.argv[1:]; "
    code += "d.bake(pathlib.Path(a), pathlib.Path(b), json.loads(c))"
    command = [sys.executable, "-c", code, template, folder, json.dumps(wanted)]
    return subprocess.Popen(command, cwd=TEMPLATE, stdout=subprocess.DEVNULL)


def baked(template: Path, folder: Path) -> list[Answers]:
    return [answers for answers in combinations(template) if (folder / name_of(answers)).is_dir()]


def check_out(revision: str, folder: Path) -> None:
    """Write the template as it was at `revision` to `folder`."""
    run = subprocess.run(
        ["git", "-c", "safe.directory=*", "archive", revision], cwd=TEMPLATE, capture_output=True
    )
    if run.returncode:
        sys.exit(
            f"git does not know the revision {revision!r}: {run.stderr.decode().strip()}\n"
            "Name a commit, a branch or a tag; `git fetch --tags` gets those that are missing."
        )
    with tarfile.open(fileobj=io.BytesIO(run.stdout)) as archive:
        archive.extractall(folder, filter="data")


def contents(folder: Path) -> dict[str, list[str]]:
    """Return the lines of all files; the first says how a file is special."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="backslashreplace").splitlines(True)
            mode = ["(executable)\n"] if os.access(path, os.X_OK) else []
            found[str(path.relative_to(folder))] = mode + lines
    return found


def changes(before: Path, after: Path) -> Iterable[Change]:
    """Yield the name of each file that differs, with its difference."""
    old, new = contents(before), contents(after)
    for name in sorted(old.keys() | new.keys()):
        lines = difflib.unified_diff(
            old.get(name, []), new.get(name, []),
            f"before/{name}" if name in old else "/dev/null",
            f"after/{name}" if name in new else "/dev/null",
        )  # fmt: skip
        if old.get(name) != new.get(name):
            text = "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
            yield name, text or f"{'removed' if name in old else 'new'}, and empty: {name}\n"


def words(some: list[Answers], everything: list[Answers]) -> str:
    """Return in words which of `everything` `some` are."""
    if len(some) == len(everything):
        return f"all {len(some)} projects"
    number = f"{len(some)} of {len(everything)} projects"
    values = {name: {a[name] for a in some} for name in everything[0]}

    def fit(names: set[str]) -> int:
        return sum(all(a[name] in values[name] for name in names) for a in everything)

    if fit(set(values)) != len(some):
        return f"{number}: {', '.join(map(name_of, some))}"
    needed = set(values)
    for name in reversed(values):
        if fit(needed - {name}) == len(some):
            needed.remove(name)
    order = {name: dict.fromkeys(a[name] for a in everything) for name in values}
    said = (
        f"{name}={'|'.join(value for value in order[name] if value in values[name])}"
        for name in values
        if name in needed
    )
    return f"{number}: {' '.join(said)}"


def compare(folder: Path, before: list[Answers], after: list[Answers]) -> str:
    """Return what differs between the projects in two folders, each difference once."""
    pairs: list[tuple[Answers, Answers]] = []
    new = []
    for answers in after:
        # The first is that with the default, if a question is gone.
        if old := next((old for old in before if agree(answers, old)), None):
            pairs.append((answers, old))
        else:
            new.append(answers)
    gone = [old for old in before if not any(agree(answers, old) for answers in after)]

    found: dict[Change, tuple[str, list[Answers]]] = {}
    for answers, old in pairs:
        was, is_now = folder / "before" / name_of(old), folder / "after" / name_of(answers)
        for name, text in changes(was, is_now):
            # In other projects the same lines may have other numbers.
            same = re.sub(r"^@@ .* @@$", "", text, flags=re.MULTILINE)
            found.setdefault((name, same), (text, []))[1].append(answers)
    compared = [answers for answers, _ in pairs]
    parts = [
        f"## {name}, {words(some, compared)}\n\n{text}"
        for (name, _), (text, some) in sorted(found.items())
    ]
    if new:
        parts.append(f"New: {words(new, after)}\n")
    if gone:
        parts.append(f"No longer there: {words(gone, before)}\n")
    return "\n".join(parts) or f"No difference. Projects compared: {len(compared)}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="uv run python -m tests.diff", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("revision", help="a commit, branch or tag to compare with")
    parser.add_argument("answers", nargs="*", help="only projects that have this ANSWER=VALUE")
    parser.add_argument("--folder", type=Path, help="where the projects go, a new folder")
    given = parser.parse_args()
    choices = questions(TEMPLATE)
    wanted = dict(answer.partition("=")[::2] for answer in given.answers)
    for name, value in wanted.items():
        if value not in choices.get(name, []):
            some = " ".join(f"{name}={'|'.join(values)}" for name, values in choices.items())
            parser.error(f"no project has {name}={value}. The answers are {some}")
    folder = given.folder or Path(tempfile.mkdtemp(prefix="gateway-diff-"))
    if folder.exists() and any(folder.iterdir()):
        parser.error(f"{folder} is not empty: name another folder, or remove it")

    folder = folder.resolve()
    with tempfile.TemporaryDirectory() as name:
        earlier = Path(name)
        check_out(given.revision, earlier)
        started = [
            start(earlier, folder / "before", wanted),
            start(TEMPLATE, folder / "after", wanted),
        ]
        codes = [one.wait() for one in started]
        if any(codes):
            sys.exit("A project could not be made: the reason is above.")
        before, after = baked(earlier, folder / "before"), baked(TEMPLATE, folder / "after")
    differences = compare(folder, before, after)
    print(differences)
    print(f"The projects are in {folder / 'before'} and {folder / 'after'}.")


if __name__ == "__main__":
    main()
