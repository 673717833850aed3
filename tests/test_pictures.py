"""Pictures in the documents: they show what is so, and can be read in light and in dark."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs import terminal
from tests.combinations import TEMPLATE

pytestmark = pytest.mark.bake

PICTURES = [*sorted(TEMPLATE.glob("docs/*.svg")), *sorted(TEMPLATE.glob("benchmarks/**/*.svg"))]
SVG = "{http://www.w3.org/2000/svg}"
DARK = "@media (prefers-color-scheme: dark) {"
# What is read as text has this contrast at least (WCAG 2.2, AA).
CONTRAST = 4.5

type Colours = dict[str, str]


def words(picture: Path) -> list[str]:
    """Return the lines of text in a picture."""
    return ["".join(text.itertext()).rstrip() for text in ET.parse(picture).iter(f"{SVG}text")]


def test_terminal_shows_what_the_template_prints(tmp_path: Path) -> None:
    """Its end is the development server's: `test_picture_in_the_readme_shows_the_address`."""
    shown = terminal.ask(tmp_path)
    files = terminal.tree(tmp_path / terminal.SLUG)
    printed = [text for line in shown if (text := terminal.text_of(line))]
    listed = [terminal.text_of(line) for line in files]
    drawn = words(terminal.PICTURE)

    command = "uv run python -m docs.terminal"
    assert drawn[: len(printed)] == printed, f"draw it anew: {command}"
    assert drawn[-len(files) :] == listed, f"draw it anew: {command}"
    # What the last lines of the questions say is what is typed next.
    assert printed[-3:] == [f"    {command}" for command in terminal.TYPED]
    typed = len(terminal.TYPED)
    assert drawn[len(printed) :][:typed] == [f"$ {command}" for command in terminal.TYPED]
    assert len(drawn) == len(printed) + typed + 2 + len(listed)


def rules(picture: Path) -> tuple[Colours, Colours]:
    """Return what fills each class (and `text`), in light and in dark."""
    style = "".join(one.text or "" for one in ET.parse(picture).iter(f"{SVG}style"))
    light, _, dark = style.partition(DARK)
    assert dark, "no colours for the dark"
    fills = [
        {
            selector.strip().removeprefix("."): fill[1]
            for selector, declarations in re.findall(r"([^{}]+)\{([^}]*)\}", part)
            if (fill := re.search(r"\bfill: (#\w+)", declarations))
        }
        for part in (light, dark)
    ]
    return fills[0], fills[0] | fills[1]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_every_colour_has_one_for_the_dark(picture: Path) -> None:
    root = ET.parse(picture).getroot()
    style = "".join(one.text or "" for one in root.iter(f"{SVG}style"))
    light, _, dark = style.partition(DARK)

    for element in root.iter():
        for name in ("fill", "stroke", "style", "color"):
            assert name not in element.attrib, f"{element.tag} has a colour of its own"
    for part in ("fill", "stroke"):
        coloured, again = (
            set(re.findall(rf"([\w.]+) \{{[^}}]*\b{part}: #", rules)) for rules in (light, dark)
        )
        assert coloured == again
    assert root.get("role") == "img"
    assert root.get("aria-label")


def texts(
    element: ET.Element, names: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Return the pieces of a text, each with its classes."""
    own = (*names, *element.get("class", "").split())
    if element.text:
        yield element.text, own
    for child in element:
        yield from texts(child, own)
        if child.tail:
            yield child.tail, own


def luminance(colour: str) -> float:
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_read(picture: Path, dark: bool) -> None:
    fills = rules(picture)[dark]
    areas: list[tuple[ET.Element, str]] = []
    seen = 0

    for element in ET.parse(picture).getroot().iter():
        if element.tag == f"{SVG}rect":
            filled = [fills[name] for name in element.get("class", "").split() if name in fills]
            areas += [(element, fill) for fill in filled[-1:]]
        if element.tag == f"{SVG}text":
            behind = [fill for area, fill in areas if lies_in(element, area)][-1]
            for text, names in texts(element):
                colour = [fills["text"], *(fills[name] for name in names if name in fills)][-1]
                assert contrast(colour, behind) >= CONTRAST, f"{text}: {colour} on {behind}"
                seen += 1
    assert seen > 9


def lies_in(text: ET.Element, area: ET.Element) -> bool:
    x, y = float(text.attrib["x"]), float(text.attrib["y"])
    left, top = float(area.get("x", 0)), float(area.get("y", 0))
    width, height = float(area.attrib["width"]), float(area.attrib["height"])
    return left <= x <= left + width and top <= y <= top + height
