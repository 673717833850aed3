"""Links in the documents lead somewhere, and pictures have a text for those who do not see them."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.combinations import QUESTIONS, TEMPLATE
from tests.conftest import Bake

pytestmark = pytest.mark.bake

PROJECT = "{{ cookiecutter.project_slug }}"
DOCUMENTS = sorted(
    path
    for path in TEMPLATE.rglob("*.md")
    if not any(part.startswith(".") or part == PROJECT for part in path.relative_to(TEMPLATE).parts)
)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    # A link in a heading is its words.
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def broken(document: Path) -> list[str]:
    """Return the links of a document that lead nowhere, and its pictures without a text."""
    # Code in the words of a link belongs to them, and a link in code is none.
    text = CODE.sub(lambda code: "code" if "](" in code[0] or "\n" in code[0] else code[0],
                    document.read_text(encoding="utf-8"))  # fmt: skip
    wrong = []
    for picture, words, target in LINK.findall(text):
        if picture and len(words) < 20:
            wrong.append(f"{target}: no text that says what is in the picture")
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (document.parent / unquote(file)).resolve() if file else document
        if not there.exists():
            wrong.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(there):
            wrong.append(f"{target}: no such heading")
    return wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TEMPLATE)))
def test_links_lead_somewhere(document: Path) -> None:
    assert broken(document) == []


def test_documents_are_found() -> None:
    names = {str(path.relative_to(TEMPLATE)) for path in DOCUMENTS}

    assert {"README.md", "CONTRIBUTING.md", "docs/choosing.md", "benchmarks/README.md"} <= names


@pytest.mark.parametrize("interface", ["wsgi", "both"])
@pytest.mark.parametrize("deployment", ["compose", "kubernetes", "systemd"])
def test_links_of_a_project_lead_somewhere(interface: str, deployment: str, bake: Bake) -> None:
    project = bake(
        interface=interface,
        realtime="none" if interface == "wsgi" else "channels",
        database="postgresql",
        deployment=deployment,
    )

    documents = QUESTIONS["__address"] + "/blob/main/"
    for document in project.path.rglob("*.md"):
        assert broken(document) == [], document.name
        for place in re.findall(rf"{documents}([^)\s]+)", document.read_text(encoding="utf-8")):
            assert (TEMPLATE / place).is_file(), place
    assert f"{documents}docs/switching.md" in project.read("README.md")


def test_address_of_the_template_is_one() -> None:
    """In the questions, which are no templates, and on the pages."""
    question = QUESTIONS["__prompts__"]["interface"]["__prompt__"]
    assert QUESTIONS["__address"].removeprefix("https://") + "/blob/main/docs/" in question
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for found in re.findall(r"https://github\.com/\S+/cookiecutter-django-gateway", text):
            assert found == QUESTIONS["__address"], document.name


def test_page_about_choosing_is_found_from_the_readme_and_the_page_about_switching() -> None:
    for name, target in (("README.md", "docs/choosing.md"), ("docs/switching.md", "choosing.md")):
        assert f"]({target})" in (TEMPLATE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](none.md)", "none.md: no such file"),
        ("[a](#none)", "#none: no such heading"),
        ("# `a_b` and [c](#a_b-and-c): d\n\n[e](#a_b-and-c-d)", "#a_b-and-c: no such heading"),
        ("![a](page.md)", "page.md: no text that says what is in the picture"),
        ("`[a](none.md)`, [`a`](page.md) and [a](https://example.com/none)", None),
    ],
)
def test_link_that_leads_nowhere_is_seen(tmp_path: Path, text: str, said: str | None) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)

    assert broken(page) == ([said] if said else [])
