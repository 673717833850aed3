"""Build the site of these documents.

    uv run --group docs python -m docs FOLDER

copies the Markdown as GitHub shows it to a folder of its own, in which no name has braces, lets
Zensical build it, and looks at each link of the result.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = Path(__file__).with_name("zensical.toml")
# GitHub names its own repository; elsewhere it is the name that the README has.
REPOSITORY = "/".join(
    (
        os.environ.get("GITHUB_SERVER_URL", "https://github.com"),
        os.environ.get("GITHUB_REPOSITORY", "org/cookiecutter-django-gateway"),
    )
)
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "benchmarks/**/*.md")

CODE = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r'(?<=\]\()[^()\s]+(?=\))|(?<=src=")[^"]+|(?<=srcset=")[^"\s]+|(?<=href=")[^"]+')


class SiteError(Exception):
    """The site cannot be built; the text says why."""


def copy(folder: Path, root: Path = ROOT) -> None:
    """Copy the pages under `root`, and the pictures in them, to `folder`.

    What is linked and is neither becomes a link to the repository.
    """
    pages = {path for pattern in PAGES for path in root.glob(pattern)}
    faults = []
    for page in sorted(pages):
        place = page.relative_to(root)

        def target(link: re.Match[str], page: Path = page, place: Path = place) -> str:
            url = urlsplit(link[0])
            if url.scheme or not url.path:
                return link[0]
            linked = Path(os.path.normpath(page.parent / unquote(url.path)))
            if not (linked.is_relative_to(root) and linked.exists()):
                faults.append(f"{place} links to {link[0]}, which is not there.")
            elif linked.suffix in (".svg", ".png"):
                to = folder / linked.relative_to(root)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(linked, to)
            elif linked not in pages:
                kind = "tree" if linked.is_dir() else "blob"
                return f"{REPOSITORY}/{kind}/main/{quote(str(linked.relative_to(root)))}"
            return link[0]

        text = page.read_text(encoding="utf-8")
        written, end = [], 0
        for code in (*CODE.finditer(text), None):
            start = code.start() if code else len(text)
            written += [LINK.sub(target, text[end:start]), code[0] if code else ""]
            end = code.end() if code else start
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text("".join(written), encoding="utf-8")
    if faults:
        raise SiteError("\n".join(faults))


class References(HTMLParser):
    """The addresses that a page refers to, and the places in it that can be referred to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "srcset") and value:
                self.addresses.add(value.split()[0])
            elif name in ("id", "name") and value:
                self.places.add(value)


def broken_links(site: Path) -> list[str]:
    """Return a sentence for each link that leads to nothing in the site."""
    pages = {
        path.resolve(): References(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if path.name != "404.html"  # its links begin at the site's own address
    }
    faults = []
    for page, references in pages.items():
        for address in sorted(references.addresses):
            url = urlsplit(address)
            if url.scheme or url.netloc:
                continue
            linked = (page.parent / unquote(url.path)).resolve() if url.path else page
            if linked.is_dir():
                linked /= "index.html"
            known = pages.get(linked)
            here = page.relative_to(site.resolve())
            if not linked.exists():
                faults.append(f"{here} refers to {address}, which is not there.")
            elif known and url.fragment and unquote(url.fragment) not in known.places:
                faults.append(f"{here} refers to {address}: that page has no such heading.")
    return faults


def configuration(pages: Path) -> str:
    """Return Zensical's configuration. Pages that its menu does not name stand last in it."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    found = {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    if others := sorted(found - set(re.findall(r'"([^"]+\.md)"', text))):
        text = text.replace("\n]\n", f'\n    {{ "More" = {json.dumps(others)} }},\n]\n', 1)
    return text


def build(site: Path, root: Path = ROOT) -> None:
    """Build the site of the pages under `root` in `site`, a new or empty folder."""
    if site.exists() and any(site.iterdir()):
        raise SiteError(f"{site} is not empty: name another folder, or remove it.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder / "pages", root)
        (folder / "zensical.toml").write_text(configuration(folder / "pages"), encoding="utf-8")
        run = subprocess.run(
            [sys.executable, "-m", "zensical", "build", "--strict"],
            cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said = re.sub(r"\x1b\[[\d;]*m", "", run.stdout)
        if run.returncode or "Warning:" in said:
            # The place in Zensical's own code is of no use to a writer.
            raise SiteError(said.partition("Traceback")[0].strip() or said)
        shutil.copytree(folder / "site", site, dirs_exist_ok=True)
    if faults := broken_links(site):
        raise SiteError("\n".join(faults))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Name the folder for the site: uv run --group docs python -m docs FOLDER")
    try:
        build(Path(sys.argv[1]))
    except SiteError as fault:
        sys.exit(str(fault))
    print(f"Open {Path(sys.argv[1]).resolve()}/index.html")
