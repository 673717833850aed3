"""One SVG for each question: horizontal bars that read in light and in dark."""

import statistics
from html import escape

from benchmarks.measures import ERRORS, LESS_IS_BETTER, MEASURES
from benchmarks.report import Failures, Results, number
from benchmarks.subjects import SUBJECTS, Subject

TITLES = {
    "pages": "Pages that sync views answer",
    "async": "Pages that async views answer",
    "waiting": "Views that wait",
    "static": "Static files",
    "memory": "Memory and start",
    "sockets": "Open WebSockets",
}
KINDS = {
    "emitted": "emitted", "switched": "one decision switched off", "stock": "startproject",
    "template": "best known template", "raw": "server alone",
}  # fmt: skip
SOCKETS = {
    "KiB/socket": "Memory of an open socket",
    "echoes/s": "Messages that come back, on 64 sockets",
}
WIDTH, LABEL, BAR, ROW = 760, 200, 380, 24
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 17px; font-weight: 600 }
.heading { font-weight: 600 }
.note { fill: #59636e; font-size: 12px }
.paper { fill: #ffffff }
.emitted { fill: #1a7f37 } .switched { fill: #8ac99a } .stock { fill: #0969da }
.template { fill: #9a6700 } .raw { fill: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .note { fill: #9198a1 } .paper { fill: #0d1117 }
  .emitted { fill: #3fb950 } .switched { fill: #25633a } .stock { fill: #4493f8 }
  .template { fill: #d29922 } .raw { fill: #656c76 }
}
"""


def svg(chart: str, results: Results, failures: Failures) -> str:
    """Return the chart of a question, or nothing if none of its measures was made."""
    panels: list[tuple[str, str, list[tuple[str, str, float, float]], list[Subject]]] = []
    for measure in (measure for measure in MEASURES if measure.chart == chart):
        numbers = results.get(measure.name, {})
        failed = [
            subject
            for subject in SUBJECTS
            if subject.name in failures.get(measure.name, {}) and subject.name not in numbers
        ]
        metrics = dict.fromkeys(m for values in numbers.values() for m in values)
        # The sockets have a number for each question; elsewhere the first one is the answer.
        shown = [m for m in metrics if m != ERRORS]
        for metric in shown if chart == "sockets" else shown[:1]:
            bars = [
                (s.name, s.kind, statistics.median(numbers[s.name][metric]),
                 max(numbers[s.name].get(ERRORS, [0])))
                for s in SUBJECTS if metric in numbers.get(s.name, {})
            ]  # fmt: skip
            # A number that only one subject has compares nothing; it stands in the table.
            if chart != "sockets" or len(bars) > 1:
                title = SOCKETS.get(metric, metric) if chart == "sockets" else measure.title
                panels.append((title, metric, bars, failed))
        if failed and not shown:
            panels.append((measure.title, "", [], failed))
    if not panels:
        return ""
    kinds = {kind for _, _, bars, _ in panels for _, kind, _, _ in bars}
    parts = [text(16, 28, TITLES[chart], "title")]
    x = 16
    for kind, label in KINDS.items():
        if kind in kinds:
            parts.append(f'<rect class="{kind}" x="{x}" y="44" width="12" height="12" rx="2"/>')
            parts.append(text(x + 18, 55, label, "note"))
            x += 36 + 7 * len(label)
    y = 66
    for title, metric, bars, failed in panels:
        y += 28
        direction = "less is better" if metric in LESS_IS_BETTER else "more is better"
        parts.append(text(16, y, title, "heading"))
        if metric:
            parts.append(text(WIDTH - 16, y, f"{metric}, {direction}", "note", "end"))
        y += 10
        most = max((value for _, _, value, _ in bars), default=0) or 1
        for name, kind, value, errors in bars:
            length = max(1.0, value / most * BAR)
            parts.append(text(LABEL - 8, y + 16, name, "", "end"))
            parts.append(
                f'<rect class="{kind}" x="{LABEL}" y="{y + 3}" width="{length:.1f}" '
                f'height="{ROW - 7}" rx="2"/>'
            )
            mark = f"  ⚠ {errors:,.0f} errors" if errors else ""
            parts.append(text(LABEL + length + 6, y + 16, number(value) + mark))
            y += ROW
        for subject in failed:
            parts.append(text(LABEL - 8, y + 16, subject.name, "", "end"))
            parts.append(text(LABEL + 6, y + 16, "⚠ no number: see the table", "note"))
            y += ROW
    height = y + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(TITLES[chart])}">\n'
        f"<style>{STYLE}</style>\n"
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    """Return a text element; `anchor` is the end of it that stands at `x`."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )
