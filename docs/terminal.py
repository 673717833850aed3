"""Draw `docs/terminal.svg`, of a real run: `uv run python -m docs.terminal`.

It shows what a new user sees: the questions, the first start, and the files that are there then.
"""

import html
import json
import os
import pty
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.combinations import QUESTIONS, TEMPLATE, VERSION
from tests.project import clean_environment, uv

PICTURE = TEMPLATE / "docs" / "terminal.svg"
COMMAND = f"uvx cookiecutter gh:org/cookiecutter-django-gateway --checkout {VERSION}"
ANSWERS = {
    "project_name": "Corner Shop",
    "interface": "both",
    "realtime": "channels",
    "database": "postgresql",
    "deployment": "compose",
}
SLUG = "corner_shop"
# What the template says at its end, and what is typed next.
TYPED = (
    f"cd {SLUG}",
    'git init && git add -A && git commit -m "As it was made"',
    "uv run just dev",
)
# Folders whose files are shown, and what each folder is for, as in docs/design.md.
SHOWN = (SLUG, "config", "deploy")
NOTES = {
    SLUG: "the applications: yours",
    "config": "the configuration: yours",
    "serving": "between server and Django",
    "deploy": "the deployment: yours",
    "tests": "the tests: yours",
}
COLUMNS = 80

# In pixels: of a letter, between two lines, around all.
LETTER, ROW, EDGE = 7.23, 16.5, 16
STYLE = """
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #1f2328 }
.paper { fill: #f6f8fa }
.bold { font-weight: 600 }
.dim { fill: #59636e }
.cyan { fill: #0550ae }
.magenta { fill: #8250df }
.typed { fill: #116329; font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .paper { fill: #151b23 } .dim { fill: #9198a1 }
  .cyan { fill: #79c0ff } .magenta { fill: #d2a8ff } .typed { fill: #7ee787 }
}
"""
ESCAPE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")
# How the last line looks when an answer is wanted.
ASKED = re.compile(r"^(  \[\d/\d\] .*|    Choose from .*)\): $(?!\n)", re.MULTILINE)
CLASSES = {"1": "bold", "2": "dim", "35": "magenta", "36": "cyan"}

# A line is pieces of text, each with the class it is drawn with.
type Line = list[tuple[str, str]]


def text_of(line: Line) -> str:
    return "".join(text for text, _ in line).rstrip()


def ask(folder: Path) -> list[Line]:
    """Answer the questions at a terminal in `folder`; return what stands there at the end."""
    settings = folder / ".cookiecutter.yaml"
    settings.write_text(
        json.dumps({"replay_dir": f"{folder}/.replay", "cookiecutters_dir": f"{folder}/.cc"})
    )
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cookiecutter", TEMPLATE, "--config-file", settings],
        cwd=folder,
        env=clean_environment() | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)},
        stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    lines: list[Line] = [[(f"$ {COMMAND}", "bold")]]
    try:
        for name, choices in QUESTIONS.items():
            if name.startswith("_"):
                continue
            lines += coloured(read(keyboard, until=ASKED))
            typed = ANSWERS.get(name, "")
            if typed and isinstance(choices, list):
                typed = str(choices.index(typed) + 1)
            os.write(keyboard, f"{typed}\n".encode())
            read(keyboard, until=re.compile("\n"))  # the terminal shows what is typed
            if typed:
                lines[-1].append((typed, "typed"))
        lines += coloured(read(keyboard))
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()
        os.close(keyboard)
    while not text_of(lines[-1]):
        lines.pop()
    return lines


def read(terminal: int, until: re.Pattern[str] | None = None) -> str:
    """Return what comes until the last line is of some kind, or until the program ends."""
    shown = b""
    end = time.monotonic() + 60
    while not (until and until.search(ESCAPE.sub("", shown.decode(errors="ignore")))):
        assert time.monotonic() < end, f"the terminal has no more than {shown!r}"
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            # One by one: what follows belongs to the next question.
            byte = os.read(terminal, 1)
        except OSError:  # Linux: nobody writes there any more
            break
        if not byte:
            break
        shown += byte
    return shown.decode().replace("\r", "")


def coloured(shown: str) -> list[Line]:
    """Return the lines of a terminal's text, with classes in the place of its colours."""
    lines: list[Line] = []
    classes: dict[str, None] = {}
    for row in shown.removesuffix("\n").split("\n"):
        line: Line = []
        rest = 0
        for escape in [*ESCAPE.finditer(row), None]:
            if text := row[rest : escape.start() if escape else None]:
                line.append((text, " ".join(classes)))
            if escape and escape[2] == "m":
                for code in escape[1].split(";"):
                    if code in ("", "0"):
                        classes.clear()
                    elif code in CLASSES:
                        classes[CLASSES[code]] = None
            rest = escape.end() if escape else rest
        lines.append(line)
    return lines


def start(project: Path) -> list[Line]:
    """Start the development server, and stop it; return the first words and the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [uv(), "run", "just", "dev"],
        cwd=project,
        env=clean_environment() | {"PORT": str(port)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout
    said = ""
    while not (address := re.search(r"Uvicorn running on .*\)", ESCAPE.sub("", said))):
        line = process.stdout.readline()
        assert line, said
        said += line
    process.terminate()
    process.stdout.close()
    process.wait()
    return [
        [],
        *([(f"$ {command}", "bold")] for command in TYPED),
        # It begins with packages, migrations and the time.
        [("…", "dim")],
        [(address[0].replace(f":{port}", ":8000"), "")],
    ]


def tree(project: Path) -> list[Line]:
    """Return the folders of a project, and what is in those that are its owner's."""
    lines: list[Line] = [[(f"{project.name}/", "bold")]]
    entries = entries_of(project)
    for place, entry in enumerate(entries):
        last = place == len(entries) - 1
        name = f"{entry.name}/" if entry.is_dir() else entry.name
        line = [("└── " if last else "├── ", "dim"), (name, "bold" if entry.is_dir() else "")]
        if note := NOTES.get(entry.name):
            line.append((f"{'':{15 - len(name)}}{note}", "dim"))
        lines.append(line)
        inside = entries_of(entry) if entry.name in SHOWN else []
        for number, child in enumerate(inside):
            branch = "└── " if number == len(inside) - 1 else "├── "
            name = f"{child.name}/" if child.is_dir() else child.name
            lines.append([(f"{' ' if last else '│'}   {branch}", "dim"), (name, "")])
    return lines


def entries_of(folder: Path) -> list[Path]:
    """Return what is worth seeing in a folder, folders first."""
    seen = (one for one in folder.iterdir() if one.name != "__init__.py" and one.name[0] != ".")
    return sorted(seen, key=lambda one: (one.is_file(), one.name))


def svg(terminal: list[Line], files: list[Line]) -> str:
    """Return a picture of the terminal, and of the files beside it."""
    left = EDGE + COLUMNS * LETTER + 2 * EDGE
    widest = max(len(text_of(line)) for line in files)
    width = round(left + widest * LETTER + EDGE)
    height = round(max(len(terminal), len(files)) * ROW + 2 * EDGE)
    drawn = [draw(line, EDGE, row) for row, line in enumerate(terminal)]
    drawn += [draw(line, left, row) for row, line in enumerate(files)]
    title = "A new project: the questions, the first start, and its files"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{title}">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n"
        f'<rect class="paper" width="{width}" height="{height}" rx="6"/>\n'
        + "".join(drawn)
        + "</svg>\n"
    )


def draw(line: Line, x: float, row: int) -> str:
    if not text_of(line):
        return ""
    y = EDGE + (row + 1) * ROW - 5
    pieces = (
        f'<tspan class="{names}">{html.escape(text, quote=False)}</tspan>'
        if names
        else html.escape(text, quote=False)
        for text, names in line
    )
    return f'<text x="{x:.0f}" y="{y:.1f}" xml:space="preserve">{"".join(pieces)}</text>\n'


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        shown = ask(Path(folder))
        project = Path(folder) / SLUG
        files = tree(project)
        PICTURE.write_text(svg(shown + start(project), files), encoding="utf-8")


if __name__ == "__main__":
    main()
