"""What docs/switching.md says of conflicts, of files that come and go, and of rolling it out."""

import itertools
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests import test_switch
from tests.background import SETTINGS, add_to_compose, add_to_kubernetes
from tests.combinations import CHOICES, TEMPLATE, Answers
from tests.compat import add_sign_up
from tests.conftest import Bake
from tests.project import Project
from tests.test_switch import (
    ASGI,
    AUTHOR_WORDS,
    CHAT,
    WSGI,
    Create,
    append,
    commit,
    contents,
    edit,
    git,
    shell,
    switch,
)

pytestmark = pytest.mark.project

template, create, begun = test_switch.template, test_switch.create, test_switch.begun
PAGE = (TEMPLATE / "docs" / "switching.md").read_text(encoding="utf-8")


def work_by_the_pages(project: Project) -> None:
    """Do what docs/accounts.md, docs/background.md and docs/switching.md say of these files."""
    add_sign_up(project)
    append(project.path / "config" / "settings.py", f"\n{SETTINGS}")
    if project.is_(deployment="compose"):
        add_to_compose(project)
    else:
        add_to_kubernetes(project)
    (project.path / "README.md").write_text("# The corner\n\nIt sells wine.\n")
    assert 'first add `"README.md"` to `skip`' in PAGE
    edit(project.path / "pyproject.toml", 'skip = [".env"', 'skip = ["README.md", ".env"')


@pytest.mark.parametrize("place", ["compose", "kubernetes"])
@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
def test_what_the_pages_say_is_kept_by_a_move(
    back: bool, place: str, create: Create, tmp_path: Path
) -> None:
    pages = {"interface": "wsgi", "realtime": "none", "database": "postgresql"}
    if place == "compose":
        pages["database"] = "sqlite"
    before, after = (answers | {"deployment": place} for answers in (pages, CHAT))
    if back:
        before, after = after, before
    project, expected = (
        create(answers, tmp_path / name)
        for name, answers in (("moved", before), ("expected", after))
    )
    git(project.path, "init", "--quiet")
    commit(project.path, "As it was made")
    for one in (project, expected):
        work_by_the_pages(one)

    output = switch(project, after)

    assert contents(project) == contents(expected), output


def conflicts_that_the_page_finds(project: Project) -> str:
    """Run the commands of docs/switching.md that look for conflicts; return what they print."""
    (commands,) = re.findall(r"```\n(git diff --check\n.*?)```", PAGE, re.DOTALL)
    return project.run("bash", "-c", commands).stdout


def test_conflict_is_found_by_the_commands_of_the_page(begun: Create, tmp_path: Path) -> None:
    project = begun(WSGI, tmp_path / "shop")
    edit(project.path / "config" / "settings.py", "import DATABASE\n", "import DATABASE  # mine\n")

    switch(project, CHAT | {"deployment": "none"})

    assert "config/settings.py:" in conflicts_that_the_page_finds(project)
    # What the page says of taking it back.
    assert "config/asgi.py" in git(project.path, "diff", "HEAD")
    git(project.path, "reset", "--hard")
    assert git(project.path, "status", "--porcelain") == ""
    assert not (project.path / "config" / "asgi.py").exists()


def test_reject_is_found_by_the_commands_of_the_page(create: Create, tmp_path: Path) -> None:
    """In a project whose first commit had work in it already, so that git cannot merge."""
    project = create(WSGI, tmp_path / "shop")
    edit(project.path / "config" / "settings.py", "import DATABASE\n", "import DATABASE  # mine\n")
    git(project.path, "init", "--quiet")

    switch(project, CHAT | {"deployment": "none"})

    assert "config/settings.py.rej" in conflicts_that_the_page_finds(project)


def test_edit_of_a_file_that_goes_ends_the_merge_and_how_to_take_it_back(
    create: Create, tmp_path: Path
) -> None:
    """As docs/switching.md says it, of a chat with a model and a migration of its owner's."""
    part = PAGE.partition("**If you edited a file that the new answers do not have**")[2]
    before, after = re.findall(r"```\n(.*?)```", part, re.DOTALL)[:2]
    project = create(CHAT | {"deployment": "none"}, tmp_path / "shop")
    git(project.path, "init", "--quiet")
    commit(project.path, "As it was made")
    made = git(project.path, "rev-parse", "HEAD").strip()
    chat = project.path / "corner_shop" / "chat"
    edit(chat / "models.py", "MAX_LENGTH = 2000", "MAX_LENGTH = 3000")
    (chat / "migrations" / "0002_longer.py").write_text('"""Mine."""\n')
    edit(project.path / "config" / "settings.py", '= "UTC"', '= "Europe/Berlin"')
    edit(project.path / "config" / "settings.py", "import DATABASE, ", "import DATABASE, Any, ")
    left = ["corner_shop/chat/migrations/0002_longer.py", "corner_shop/chat/models.py"]

    said = switch(project, WSGI)

    assert re.search(r'says "(Failed to .*? strategy)"', part.replace("\n", " "))[1] in said
    assert conflicts_that_the_page_finds(project).split() == ["!!", "config/settings.py.rej"]
    assert shell(after, project.path).split() == left

    git(project.path, "reset", "--hard")
    (project.path / "config" / "settings.py.rej").unlink()
    shell(
        before.replace("COMMIT", made).replace("git commit", f"git {AUTHOR_WORDS} commit"),
        project.path,
    )
    edit(project.path / "config" / "settings.py", "import DATABASE, Any, ", "import DATABASE, ")

    said = switch(project, WSGI)

    assert "Failed" not in said
    assert conflicts_that_the_page_finds(project) == ""
    assert not chat.exists()
    assert '"Europe/Berlin"' in project.read("config/settings.py")


def test_table_of_files_is_what_the_answers_give(bake: Bake) -> None:
    """docs/switching.md, for somebody who looks up what will change."""

    def files_of(answers: Answers) -> set[str]:
        project = bake(**answers)
        names = (name.replace(project.slug, "corner_shop") for name in project.files())
        # Folders that come as a whole.
        return {re.sub(r"(/(?:chat|notifications|live)/).*", r"\1", name) for name in names}

    files = {name: files_of(WSGI | {"interface": name}) for name in CHOICES["interface"]}
    moves = list(itertools.permutations(files, 2))
    for name in CHOICES["realtime"]:
        files[name] = files_of(ASGI | {"realtime": name})
    moves += [("none", "sse"), ("none", "channels")]
    rows = []
    for before, after in moves:
        new, removed = (
            ", ".join(f"`{name}`" for name in sorted(names)) or "none"
            for names in (files[after] - files[before], files[before] - files[after])
        )
        rows.append(f"| {before} | {after} | {new} | {removed} |\n")

    assert "".join(rows) in PAGE


INTERFACES = [{"interface": name, "database": "postgresql"} for name in CHOICES["interface"]]


def rolling_out() -> str:
    """Return what docs/switching.md says of it."""
    return PAGE.partition("## Rolling it out, and back")[2].partition("\n## ")[0]


def test_caddy_has_to_be_restarted_by_hand_after_a_change_of_interface(
    bake: Bake, tmp_path: Path
) -> None:
    """compose does not see that the file has changed that is mounted into it."""
    compose = str(Path(sys.executable).with_name("docker-compose"))
    hashes, files = set(), {}
    for answers in INTERFACES:
        made = bake(**answers, deployment="compose")
        here = shutil.copytree(made.path, tmp_path / "site")
        project = Project(here, made.answers)
        hashes.add(project.must(compose, "-f", "deploy/compose.yaml", "config", "--hash", "caddy"))
        files[answers["interface"]] = re.sub(r"#.*", "", project.read("deploy/Caddyfile"))
        shutil.rmtree(here)

    assert len(hashes) == 1
    assert files["both"] not in (files["wsgi"], files["asgi"])
    assert "\ndocker compose -f deploy/compose.yaml restart caddy\n" in rolling_out()


def test_objects_of_an_interface_have_the_labels_that_the_page_names(bake: Bake) -> None:
    kubectl = str(Path(sys.executable).with_name("kubectl"))
    text = rolling_out()
    assert " -l app.kubernetes.io/component\n" in text
    (deleted,) = re.findall(r"delete (\S+) -l 'app.kubernetes.io/component in", text)
    short = {"HorizontalPodAutoscaler": "hpa", "PodDisruptionBudget": "pdb"}
    for answers in INTERFACES:
        project = bake(**answers, deployment="kubernetes")
        made = project.must(kubectl, "kustomize", "deploy/kubernetes/production")
        found: dict[str, set[str]] = {}
        for one in yaml.safe_load_all(made):
            role = one["metadata"].get("labels", {}).get("app.kubernetes.io/component")
            found.setdefault(role, set()).add(short.get(one["kind"], one["kind"].lower()))
        others = found.pop(None)

        assert found.keys() == ({"pages", "live"} if answers["interface"] == "both" else {"web"})
        assert all(kinds == set(deleted.split(",")) for kinds in found.values())
        # What sends requests to them comes with the second command.
        assert others == {"configmap", "ingress", "networkpolicy"}
