"""What comes out: tables with ratios first, and the machine they were measured on."""

import platform
import re
import statistics
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.measures import ERRORS, LESS_IS_BETTER, MEASURES, NO_RATIO
from benchmarks.projects import Workshop
from benchmarks.subjects import SUBJECTS, reference
from tests.project import uv

# By measure, subject and metric: one value for each round.
type Results = dict[str, dict[str, dict[str, list[float]]]]
# By measure and subject: when there was no number, and why.
type Failures = dict[str, dict[str, list[str]]]

PACKAGES = (
    "asgiref", "channels", "channels-redis", "django", "gunicorn", "httptools", "psycopg",
    "psycopg-pool", "redis", "servestatic", "structlog", "uvicorn", "uvicorn-worker", "uvloop",
    "websockets", "whitenoise",
)  # fmt: skip


def output_of(*command: object) -> str:
    """Return what a command says, whatever its exit status; nothing if it does not exist."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError:
        return ""
    return done.stdout.strip()


def machine(workshop: Workshop, command: str) -> dict[str, str]:
    """Describe what the numbers depend on, except the name of the machine."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    found: dict[str, set[str]] = {name: set() for name in PACKAGES}
    pythons = set()
    for folder in {project.bin.resolve() for project in workshop.projects.values()}:
        pythons.add(output_of(folder / "python", "--version").removeprefix("Python "))
        for line in output_of(uv(), "pip", "freeze", "--python", folder / "python").splitlines():
            name, _, number = line.partition("==")
            if name in found:
                found[name].add(number)
    here = Path(__file__).parent
    services = [output_of("wrk", "-v").partition(" [")[0]]
    # Only what this run has started: asking starts it.
    if "postgresql" in vars(workshop):
        services.append(output_of(workshop.postgresql.programs / "postgres", "--version"))
    if "redis" in vars(workshop):
        services.append(" ".join(output_of("redis-server", "--version").split()[:3]))
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "template": output_of("git", "-C", here, "describe", "--always", "--dirty"),
        "CPUs": f"{len(re.findall(r'^processor', cpuinfo, re.MULTILINE))} "
        f"({model[1] if model else platform.machine()})",
        "memory": f"{int(memory[1]) / 1024**2:.1f} GiB" if memory else "",
        "kernel": f"{platform.system()} {platform.release()}",
        "load as measuring began": Path("/proc/loadavg").read_text().split()[0],
        "Python": " and ".join(sorted(pythons)),
        "packages": ", ".join(
            f"{name} {' and '.join(sorted(numbers))}" for name, numbers in found.items() if numbers
        ),
        "programs": ", ".join(filter(None, services)),
        "client": f"psutil {version('psutil')}, Python {platform.python_version()}",
    }


def number(value: float) -> str:
    """Return a number with as many digits as are worth reading."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def count(value: float) -> str:
    return f"{value:,.0f}"


def cell(metric: str, values: list[float], base: list[float] | None) -> str:
    """Return the ratio to `base`, the median and, of several rounds, least and most."""
    middle = statistics.median(values)
    text = number(middle)
    if len(values) > 1 and min(values) != max(values):
        text += f" ({number(min(values))}–{number(max(values))})"
    if base and metric not in NO_RATIO and (below := statistics.median(base)):
        text = f"**{middle / below:.2f}×** {text}"
    return text


def table(measure: str, results: Results, failures: Failures) -> list[str]:
    """Return the lines of a measure's Markdown table."""
    numbers, failed = results.get(measure, {}), failures.get(measure, {})
    metrics = list(dict.fromkeys(m for values in numbers.values() for m in values if m != ERRORS))
    titles = [f"{m} {'↓' if m in LESS_IS_BETTER else '↑'}" for m in metrics]
    lines = [
        "| " + " | ".join(["subject", "1.00× is", *titles, ERRORS]) + " |",
        "| --- | --- |" + " --- |" * len(metrics) + " ---: |",
    ]
    for subject in SUBJECTS:
        if subject.name not in numbers and subject.name not in failed:
            continue
        own, told = numbers.get(subject.name, {}), failed.get(subject.name, [])
        against = reference(subject, measure)
        base = numbers.get(against, {})
        cells = [cell(m, own[m], base.get(m)) if m in own else "" for m in metrics]
        wrong = max(own.get(ERRORS, [0]))
        errors = [count(wrong)] if wrong else []
        errors += [why.replace("|", "/") for why in told]
        name = f"⚠ {subject.name}" if errors else subject.name
        shown = against if base and against != subject.name else ""
        lines.append("| " + " | ".join([name, shown, *cells, "; ".join(errors)]) + " |")
    return lines


def markdown(results: Results, facts: dict[str, str], failures: Failures) -> str:
    """Return the report as Markdown."""
    lines = [
        "# Results",
        "",
        "Each cell: **ratio** to the subject in the second column, median of the rounds"
        " (least–most). ↑ more is better, ↓ less is better. ⚠ had errors: connections refused"
        " or reset, answers of 400 and above, no answer in 20 s; the worst round's number."
        " Where a number is missing, the last column says why.",
        "",
        *[f"- {name}: {fact}" for name, fact in facts.items() if fact],
    ]
    for measure in MEASURES:
        if measure.name in results or measure.name in failures:
            lines += ["", f"## {measure.title}", "", f"`{measure.name}`", ""]
            lines += table(measure.name, results, failures)
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """Return Markdown for a terminal: tables in columns, without bold marks."""
    lines = text.replace("**", "").splitlines()
    out: list[str] = []
    block: list[list[str]] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            if not set(line) <= set("|-: "):
                block.append([word.strip() for word in line.strip("|").split("|")])
            continue
        if block:
            widths = [max(map(len, column)) for column in zip(*block, strict=True)]
            out += [
                "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True))
                .rstrip()
                for row in block
            ]  # fmt: skip
            block = []
        out.append(line)
    return "\n".join(out)
