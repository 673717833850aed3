"""The site of these documents, which anybody can build."""

import shutil
from pathlib import Path

import pytest

from tests.combinations import TEMPLATE
from tests.project import Project, uv

pytestmark = pytest.mark.bake

# The command of CONTRIBUTING.md, in an environment that is not the one of these tests.
BUILD = (uv(), "run", "--quiet", "--isolated", "--only-group", "docs", "python", "-m", "docs")


def test_documents_build_without_a_warning_and_each_link_leads_somewhere(tmp_path: Path) -> None:
    Project(TEMPLATE, {}).must(*BUILD, str(tmp_path / "site"))

    for document in (*TEMPLATE.glob("docs/*.md"), *TEMPLATE.glob("docs/*.svg")):
        place = document.relative_to(TEMPLATE).with_suffix(document.suffix.replace("md", "html"))
        assert (tmp_path / "site" / place).is_file()
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert 'src="benchmarks/results/pages.svg"' in home
    assert "://fonts." not in home
    contributing = (tmp_path / "site" / "CONTRIBUTING.html").read_text(encoding="utf-8")
    assert (
        "/blob/main/%7B%7B%20cookiecutter.project_slug%20%7D%7D/serving/README.md" in contributing
    )
    assert not [path for path in (tmp_path / "site").rglob("*") if "{" in path.name]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[There](docs/none.md)", "README.md links to docs/none.md, which is not there."),
        ("[There](docs/asgi.md#none)", "anchor does not exist"),
        ('<img src="none.svg">', "README.md links to none.svg, which is not there."),
        ("[There](../../../../etc)", "README.md links to ../../../../etc, which is not there."),
    ],
)
def test_site_with_a_broken_link_is_not_built(text: str, fault: str, tmp_path: Path) -> None:
    for name in ("pyproject.toml", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(TEMPLATE / name, tmp_path)
    for name in ("benchmarks", "tests", "{{ cookiecutter.project_slug }}"):
        (tmp_path / name).symlink_to(TEMPLATE / name)
    shutil.copytree(TEMPLATE / "docs", tmp_path / "docs")
    (tmp_path / "README.md").write_text(f"# A page\n\n{text}\n", encoding="utf-8")

    run = Project(tmp_path, {}).run(*BUILD, "site")

    assert run.returncode == 1
    assert fault in run.stdout
    assert "Traceback" not in run.stdout
