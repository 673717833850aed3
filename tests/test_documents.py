"""What this repository says of itself."""

import json
import re
import tomllib
from typing import Any

import pytest
import yaml

from tests import servers
from tests.combinations import CHOICES, QUESTIONS, TEMPLATE, VERSION
from tests.compat import PACKAGES, read_table
from tests.compat.shop import rows
from tests.conftest import Bake
from tests.faults import table as faults
from tests.fidelity import table
from tests.project import Project
from tests.test_bake import expected_files

pytestmark = pytest.mark.bake

# One name or several, as `NAME` and `OTHER` in `config/settings.py`, or (`config/settings.py`).
IN_A_FILE = re.compile(
    r"((?:`[A-Z][A-Z_]+`(?:,| and)?\s+)+)(?:in |\()`((?:config|serving)/[\w./]+)`"
)
README = (TEMPLATE / "README.md").read_text(encoding="utf-8")


def test_readme_shows_the_questions_as_the_terminal_does() -> None:
    prompts = QUESTIONS["__prompts__"]
    asked = [name for name in QUESTIONS if not name.startswith("_")]

    assert list(prompts) == asked
    for number, name in enumerate(asked, 1):
        question = prompts[name]
        if isinstance(question, str):
            assert f"  [{number}/{len(asked)}] {question} (" in README
            continue
        assert f"  [{number}/{len(asked)}] {question['__prompt__']}\n" in README
        assert set(question) == {"__prompt__", *CHOICES[name]}
        for place, choice in enumerate(CHOICES[name], 1):
            line = f"    {place} - {question[choice]}"
            assert f"\n{line}\n" in README
            assert len(line) <= 80, "the terminal would wrap it"


@pytest.mark.parametrize(("name", "value"), [(n, v) for n in CHOICES for v in CHOICES[n]])
def test_readme_tells_what_each_answer_emits(name: str, value: str) -> None:
    if value == "none":
        return
    row = re.search(rf"^\| `{name}={value}` \| (.*) \|$", README, re.MULTILINE)
    assert row
    answers = {
        "project_slug": "slug",
        "interface": "both",
        "realtime": "channels",
        "database": "postgresql",
        "deployment": "compose",
    }
    everything = expected_files(Project(TEMPLATE, answers | {name: value}))
    for file in re.findall(r"`((?:config|serving|deploy)/[\w./]+|Dockerfile)`", row[1]):
        assert any(name == file or name.startswith(file) for name in everything), file


def test_commands_at_the_top_are_those_of_ci() -> None:
    first, *_ = re.findall(r"^```\n(.*?)\n```$", README, re.M | re.S)

    repository = QUESTIONS["__address"].removeprefix("https://github.com/")
    assert first.splitlines() == [
        f"pip install uv && uvx cookiecutter gh:{repository} --checkout {VERSION}",
        "cd my_site && uv run just dev",
    ]
    (here,) = re.findall(r"^pip install uv && uv run pytest$", README, re.M)
    install, test = (TEMPLATE / ".ci" / "run").read_text().splitlines()[-2:]
    # What fails is run again, and may not fail then.
    assert test.endswith(" || { [ $? = 1 ] && uv run pytest --again; }")
    assert f"{install.replace(' --quiet', '')} && {test.partition(' || ')[0]}" == here


def test_workflow_runs_the_same_script() -> None:
    workflow = yaml.safe_load((TEMPLATE / ".github" / "workflows" / "test.yml").read_text())

    assert workflow["jobs"]["test"]["steps"][-1]["run"].endswith(" .ci/run")
    assert workflow["permissions"] == {"contents": "read"}


def test_names_are_in_the_files_that_documents_say(bake: Bake) -> None:
    project = bake(interface="both", realtime="channels", database="postgresql")
    documents = [TEMPLATE / "README.md", project.path / "README.md"]
    documents += (TEMPLATE / "docs").glob("*.md")
    found = 0

    for document in documents:
        text = document.read_text(encoding="utf-8")
        for names, file in IN_A_FILE.findall(text):
            for name in re.findall(r"\w+", names.replace(" and ", " ")):
                found += 1
                assigned = re.search(rf"^ *{name}(: .+)? = ", project.read(file), re.MULTILINE)
                assert assigned, f"{document.name}: {name} is not in {file}"
    assert found > 9


def test_table_of_packages_is_that_of_their_suite() -> None:
    done, lacks = rows()
    head, *works = read_table()[: len(done) + 1]
    _, *not_yet = read_table()[len(done) + 1 :]

    assert {row[0]: row[-1] for row in works} == done
    assert {tuple(row[2:-1]) for row in works} == {("yes",) * len(CHOICES["interface"])}
    assert head[2:-1] == [f"`{interface}`" for interface in CHOICES["interface"]]
    assert {row[0]: row[-1] for row in not_yet} == lacks
    assert set(done) == set(PACKAGES)


def test_fidelity_table_has_every_row_and_none_is_worse() -> None:
    """What is in it was measured: `uv run pytest -m fidelity --write-tables`."""
    lines = table.read()

    assert list(dict.fromkeys(line[0] for line in lines)) == table.cases()
    assert [line for line in lines if line[-1] not in ("same", "better")] == []


def test_fault_table_has_a_row_for_each_test_and_nothing_is_lost() -> None:
    """What is in it was measured: `uv run pytest -m faults --write-tables`."""
    expected = {(one.fault, one.project): one for one in faults.all_expected()}
    lines = {(line[0], line[1]): line for line in faults.read()}

    assert lines.keys() == expected.keys()
    assert {len(line) for line in lines.values()} == {len(faults.HEAD)}
    for row, (*_, seen, lost, recovered, ready, in_log) in lines.items():
        assert re.fullmatch(r"\d+(; 0 of \d+ messages)?", lost), row
        assert int(re.split(r"\D", lost)[0]) <= expected[row].lost, row
        assert re.match(r"\d+ × 200", seen), row
        assert "× 500" not in seen, row
        assert float(recovered) < 60, row
        assert re.fullmatch(r"(200|502|503|none)(, (200|502|503|none))*", ready), row
        assert int(in_log) <= expected[row].lines, row


def test_server_tables_are_those_of_their_tests() -> None:
    text = servers.FILE.read_text(encoding="utf-8")
    table = text.partition(servers.BEGIN)[2].partition(servers.END)[0]
    for interface in ("asgi", "wsgi"):
        part = table.partition(f"**{interface.upper()}**")[2].partition("**")[0]
        rows = [line.strip("| ").split(" | ") for line in part.strip().splitlines()[2:]]
        wanted = [one for one in servers.SERVERS if one.interface == interface]

        assert [row[:2] for row in rows] == [servers.line(one, {}).strip("| ").split(" | ")[:2]
                                             for one in wanted]  # fmt: skip
        for (*_, works, differs), one in zip(rows, wanted, strict=True):
            for sentence in (servers.SENTENCES[n] for names in one.differs.values() for n in names):
                assert sentence in differs, one.id
                differs = differs.replace(sentence, "")
            assert differs.strip("; ") in ("", "–"), one.id
            assert set(works.split(", ")) == servers.LOOKED_AT[interface] - one.differs.keys(), (
                one.id
            )


def test_files_of_the_hosts_have_the_commands_of_the_procfile(bake: Bake) -> None:
    """docs/hosts.md: complete files to copy, each in the format of its host."""
    page = (TEMPLATE / "docs" / "hosts.md").read_text(encoding="utf-8")
    procfile = re.search(r"With `interface=wsgi`:\n\n```\nweb: (.*)\nrelease: (.*)\n```", page)
    assert procfile
    web, release = procfile.groups()
    read = {"json": json.loads, "yaml": yaml.safe_load, "toml": tomllib.loads}
    files: dict[str, Any] = {}
    for block in re.finditer(r"^```(json|yaml|toml)\n(.*?)^```", page, re.M | re.S):
        language, text = block.groups()
        host = re.findall(r"^\*\*([\w. ]+)", page[: block.start()], re.M)[-1]
        files[host] = read[language](text)
    assert set(files) == {"Heroku", "Fly.io", "Render", "Railway", "App Platform"}

    def path_of(command: str) -> str:
        return command.replace(".venv/bin/", "")

    (service,) = files["Render"]["services"]
    assert path_of(service["startCommand"]) == web
    assert path_of(service["preDeployCommand"]) == release
    assert service["buildCommand"].endswith("manage.py collectstatic --no-input")
    assert files["Render"]["databases"] == [{"name": "shop-database"}]
    deploy = files["Railway"]["deploy"]
    assert [deploy["startCommand"], *deploy["preDeployCommand"]] == [web, release]
    (job,) = files["App Platform"]["jobs"]
    assert job["run_command"] == release
    assert files["Fly.io"]["deploy"]["release_command"] == release
    # The image has the command of those that name none.
    dockerfile = bake(interface="wsgi", deployment="compose").read("Dockerfile")
    assert dockerfile.endswith(f"CMD {json.dumps(web.split())}\n")
    (app,) = files["App Platform"]["services"]
    port = re.search(r"PORT=(\d+)", dockerfile)
    assert port
    assert app["http_port"] == files["Fly.io"]["http_service"]["internal_port"] == int(port[1])

    # All name the same path, which is one, and only variables that a project reads.
    (check,) = files["Fly.io"]["http_service"]["checks"]
    assert {
        service["healthCheckPath"], deploy["healthcheckPath"],
        app["health_check"]["http_path"], check["path"],
    } == {"/health/ready"}  # fmt: skip
    variables = {
        *files["Heroku"]["env"],
        *(one["key"] for one in [*service["envVars"], *files["App Platform"]["envs"]]),
    }
    known = set(
        re.findall(r"^\| `([A-Z_]+)` \|", bake(database="postgresql").read("README.md"), re.M)
    )
    assert variables <= known
    # What gives a server less than 20 seconds after SIGTERM has to be told otherwise.
    assert service["maxShutdownDelaySeconds"] == deploy["drainingSeconds"] == 30
