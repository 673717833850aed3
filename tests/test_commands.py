"""Each command of each README and page: the test that runs it, or why none does."""

import ast
import re
from collections import defaultdict

import pytest

from tests.combinations import CHOICES, TEMPLATE, VALID, name_of
from tests.conftest import Bake
from tests.project import PRODUCTION, Project, uv

pytestmark = pytest.mark.bake

PROGRAMS = (
    "apt-get", "bash", "caddy", "cd", "certbot", "cookiecutter", "cruft", "curl",
    "daphne", "docker", "dokku",
    "fly", "git", "granian", "gunicorn", "hypercorn", "journalctl", "just", "kubectl",
    r"manage\.py", "npm", "pip", "pipx", "pyenv", "python", "python3", "release:", "sudo",
    "systemctl", "uv", "uvicorn", "uvx", "uwsgi", "waitress-serve", "web:", "worker:",
)  # fmt: skip
COMMAND = re.compile(rf"(\(umask 077; )?({'|'.join(PROGRAMS)}|\.ci/\w+)( .*)?")
# What else a line of a block may begin with, where a test reads or runs the whole block.
SHELL_WORDS = {"#", "cat", "printf", "sed", "test", "{", "}"}
SETTING = re.compile(r"[A-Z_]+=\S*")
COMPOSE = r"docker compose -f deploy/compose\.yaml "
# What is run, as a pattern for the whole command. `my_site` stands for any name.
RUN = {
    # This page
    "test_commands.py::test_lock_file_is_made_by_its_command": [r"uv lock"],
    "test_commands.py::test_secret_of_a_host_is_one": [r"python -c \"import secrets; .*"],
    "test_commands.py::test_each_choice_of_tests_finds_some": [r"uv run pytest.*"],
    # How a project comes to be
    "test_ways_in.py::test_template_lies_anywhere": [
        r"uvx cookiecutter \.( --no-input .*)?",
    ],
    "test_ways_in.py::test_cruft_creates_the_same": [r"cruft create"],
    "test_releases.py::test_project_of_a_release_is_updated_and_keeps_the_work": [
        r"uvx cruft create https\S+ --checkout 0\.2\.0",
        r"cruft create … --checkout VERSION",
        r"(uvx )?cruft update( -y)?( --checkout 0\.2\.0)?",
    ],
    "test_switch.py::test_commands_of_the_readme_change_an_answer": [
        r"(pip install uv && uvx )?cookiecutter gh:.*",
        r"(uvx )?cruft link( TEMPLATE .*)?",
        r"git -C ~/\.cookiecutters/.*",
        r"git add \.cruft\.json && git commit .*",
        r"uvx cruft update -y --variables-to-update .*",
    ],
    "test_switching_page.py::test_reject_is_found_by_the_commands_of_the_page": [
        r"git diff --check",
        r"git status --ignored.*",
    ],
    "test_switching_page.py::test_conflict_is_found_by_the_commands_of_the_page": [
        r"git (diff HEAD|reset --hard)",
    ],
    "test_switching_page.py::"
    "test_edit_of_a_file_that_goes_ends_the_merge_and_how_to_take_it_back": [
        r"git restore --source COMMIT .*",
        r"git commit -m \"The chat as it was made\"",
        r"git add -A && git ls-files my_site/chat",
    ],
    "test_switch.py::test_difference_to_the_template_is_ones_own_work_and_no_secret": [
        r"cruft diff",
    ],
    "test_switch.py::test_site_of_a_week_becomes_one_with_a_live_chat": [
        r"(git init && )?git add -A && git commit .*",
        r"uv sync && uv run just lint && uv run just test",
    ],
    # What its owner does
    "test_dev.py::test_first_start_needs_no_manual_step": [
        r"(cd \w+ && )?(uv run )?just dev",
        r"manage\.py runserver",
    ],
    "test_dev.py::test_mail_goes_to_the_terminal": [
        r"(uv run )?just manage( …)?",
        r"python manage\.py sendtestemail .*",
    ],
    "test_project.py::test_its_own_tests_pass": [r"(uv run )?just test", r"uv sync"],
    "test_project.py::test_its_own_lint_passes": [r"(uv run )?just lint"],
    "test_project.py::test_ci_passes_with_the_services_of_the_workflow": [
        r"(pip install uv && )?(uv run )?just ci",
        r"python manage\.py check --deploy",
    ],
    "test_startapp.py::test_new_app_is_installed_tested_and_linted": [
        r"(uv run )?just startapp( shop)?",
    ],
    "test_startapp.py::test_plain_startapp_is_tested_and_linted": [
        r"uv run just fix( lint test)?",
    ],
    "test_serve.py::test_home_page_tells_what_served_it": [
        r"(uv run )?just serve",
        r"gunicorn --config config/gunicorn\.conf\.py",
        r"python -m config\.uvicorn_conf",
        r"python manage\.py (migrate|collectstatic)( --no-input)?",
    ],
    "test_background.py::test_task_of_the_page_is_done_in_development": [
        r"uv add( …| django-tasks-db)?",
        r"(uv run )?just manage (migrate|db_worker)",
    ],
    "test_background.py::test_worker_ends_fails_and_is_killed_as_the_table_says": [
        r"(worker: )?python manage\.py (db_worker|prune_db_task_results)",
    ],
    "compat/test_accounts.py::test_allauth": [r"uv add django-allauth"],
    # Where it runs
    "test_one_port.py::test_site_runs_where_there_is_one_command_and_one_port": [
        r"(web|release): .*",
    ],
    "test_servers.py::test_pages_forms_and_probes": [
        r"(daphne|granian|hypercorn|uvicorn|uwsgi|waitress-serve) .*",
        r"gunicorn config\.\w+:application .*",
    ],
    "test_image.py::test_it_holds_what_is_needed_and_no_more": [r"docker build -t .*"],
    "test_backups.py::test_postgresql_of_compose": [
        rf"\(umask 077; {COMPOSE}exec -T postgresql pg_dump .*\)",
        rf"{COMPOSE}exec -T postgresql (dropdb|createdb|pg_restore|psql) .*",
    ],
    "test_backups.py::test_sqlite_of_compose": [
        rf"{COMPOSE}exec \w+ python -c .*sqlite3.*",
        rf"{COMPOSE}cp \w+:/data/copy .*",
        rf"{COMPOSE}exec -T \w+ sh -c .*",
    ],
    "test_backups.py::test_uploads_of_compose": [
        rf"\(umask 077; {COMPOSE}exec -T \w+ tar -cC .*\)",
        rf"{COMPOSE}exec -T \w+ tar -xC .*",
    ],
    "test_backups.py::test_postgresql_of_a_machine": [
        r"\(umask 077; sudo -u postgres pg_dump .*\)",
        r"sudo -u postgres (pg_restore|psql) .*",
        r"sudo -u postgres (dropdb|createdb|createuser) .*",
    ],
    "test_backups.py::test_sqlite_of_a_machine": [
        r"sudo sh -c 'umask 077; sqlite3 .*",
        r"sudo (sqlite3|test) .*",
    ],
    "systemd/test_machine.py::test_it_serves_behind_nginx_and_after_a_reboot": [
        r"(sudo )?bash deploy/systemd/install\.sh example\.com",
        r"uv sync --locked --no-dev",
    ],
    "systemd/test_machine.py::test_worker_of_the_documents_restarts_with_the_pages": [
        r"sudo systemctl enable --now my_site-worker\.service",
    ],
    "systemd/test_releases.py::test_going_back_to_the_release_before": [
        r"cd /opt/my_site && ls releases",
        r"sudo ln -sfn .*",
        r"sudo install -m 644 .*",
        r"sudo systemctl (daemon-reload|restart .*)",
    ],
    "systemd/test_releases.py::test_new_release_fails_nobody_and_changes_no_data": [
        r"sudo systemd-run .*createsuperuser",
    ],
    "test_backups.py::test_data_moves_to_another_database": [r"manage\.py dumpdata .*"],
    "test_backups.py::test_table_of_an_app_that_goes_can_go_too": [
        r"(manage\.py )?migrate \w+ zero",
    ],
    "test_background.py::test_unit_has_the_confines_of_the_others": [r"cd deploy/systemd"],
    "kubernetes/test_manifests.py::test_secret_of_the_readme_has_all_that_the_pods_want": [
        r"kubectl -n my-site create secret .*",
    ],
    # What the developers of the template do
    "test_diff.py::test_each_change_is_shown_once_with_the_projects_that_have_it": [
        r"uv run python -m tests\.diff .*",
    ],
    "test_versions.py::test_project_works_with_the_lowest_releases_that_it_admits": [
        r"uv run python -m tests\.versions",
    ],
    "test_docs.py::test_documents_build_without_a_warning_and_each_link_leads_somewhere": [
        r"uv run --group docs python -m docs site",
    ],
    "test_pictures.py::test_terminal_shows_what_the_template_prints": [
        r"uv run python -m docs\.terminal",
    ],
    "test_bake.py::test_template_is_formatted_and_linted": [
        r"uv run ruff format && uv run ruff check --fix",
    ],
    "test_documents.py::test_commands_at_the_top_are_those_of_ci": [
        r"(pip|pipx) install uv( && uv run pytest)?",
    ],
}
# What no test runs, and why.
NOT_RUN = {
    "It needs a container engine. What compose and docker would do with these files is done by "
    "tests/test_compose.py and tests/test_image.py; of `just services` the command that it runs "
    "is seen in tests/test_upkeep.py.": [
        rf"({COMPOSE}|docker compose … )(build|pull|restart|stop|up)( .*)?",
        r"docker run",
        r"(uv run )?just services( down)?",
    ],
    "It needs a registry.": [r"docker push .*"],
    "It needs a cluster. What `kubectl apply -k` would apply is made by kubectl and read by "
    "tests/kubernetes/.": [
        r"kubectl apply -k.*",
        r"kubectl (-n [\w-]+ )?(create namespace|delete|get|label|logs|rollout|wait) .*",
    ],
    "It asks for a password. Django tests it; that the site runs commands so is tested by "
    "tests/containers.py and tests/systemd/installed.py.": [
        r"uv run just manage createsuperuser",
        rf"({COMPOSE}exec|kubectl -n my-site exec -it) .*createsuperuser",
    ],
    "It installs what .ci/install has installed.": [r"(sudo )?apt-get install .*"],
    "It needs the authority that gives certificates. The sentence that has the whole command is "
    "read by tests/systemd/test_install.py.": [r"sudo certbot certonly .*"],
    "It shows what is there, and ends when somebody ends it.": [
        r"sudo journalctl .*",
        r"git (status|diff --cached)",
    ],
    "It is for a project that is older than the first release.": [
        r"git checkout HEAD -- '\*/chat/migrations/0001_initial\.py'",
        r"uv run just manage makemigrations chat",
    ],
    "It would publish.": [r"git tag VERSION && git push .*"],
    "It takes minutes of both processors. Its parts are tested by tests/test_benchmarks.py and "
    "tests/test_contributing.py.": [
        r"uv run benchmarks.*",
        r"uv run --group mutation .*",
    ],
    "It installs what these tests need, or runs them.": [r"\.ci/(install|run)"],
    "tests/test_servers.py installs it into an environment of its own.": [r"uv add granian"],
    "It is the command of a host, which wants an account there.": [r"(dokku|fly) .*"],
    "It builds an interpreter.": [r"pyenv install 2\.7"],
    "It asks for the advisories of today, which a workflow does every Monday.": [r"\.ci/audit"],
    "It only stops what could write, and starts it again.": [
        r"sudo systemctl (stop|start) (nginx|my_site-worker)",
    ],
}


BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.M | re.S)


def lines_of(text: str) -> list[str]:
    """Return the lines of the blocks that a shell runs; a line that goes on is one."""
    lines: list[str] = []
    for language, body in BLOCK.findall(text):
        if language in ("", "bash"):
            body = re.sub(r"<<(\w+)$.*?^\1$", "", body, flags=re.M | re.S)
            lines += body.replace("\\\n", " ").splitlines()
    return lines


def commands_of(text: str, slug: str) -> set[str]:
    """Return the commands of a page: the lines of its blocks, and what stands between backticks."""
    text = text.replace(slug, "my_site").replace(slug.replace("_", "-"), "my-site")
    lines = lines_of(text)
    lines += re.findall(r"`([^`]+)`", BLOCK.sub("", text))
    found = {re.sub(r"\s+", " ", re.sub(r"(?<= )#.*", "", line)).strip() for line in lines}
    # A single word is the name of a program, unless it is one of this repository.
    return {
        one for one in found if COMMAND.fullmatch(one) and (" " in one or one.startswith(".ci/"))
    }


def pages() -> dict[str, str]:
    """Return the pages of the template; of the changelog what somebody does on an update."""
    paths = [*TEMPLATE.glob("*.md"), *TEMPLATE.glob("docs/*.md"), TEMPLATE / "benchmarks/README.md"]
    found = {str(path.relative_to(TEMPLATE)): path.read_text(encoding="utf-8") for path in paths}
    sections = re.findall(
        r"^### What to do on update\n(.*?)(?=^##|\Z)", found["CHANGELOG.md"], re.M | re.S
    )
    assert sections
    return found | {"CHANGELOG.md": "".join(sections)}


@pytest.fixture(scope="module")
def texts(bake: Bake) -> dict[str, tuple[str, str]]:
    """The text of each page, and the slug in it; the names of a project's have its answers."""
    found = {name: (text, "corner_shop") for name, text in pages().items()}
    # What they say of realtime stands in all of them.
    places = {
        (answers["interface"], answers["database"], answers["deployment"]): answers
        for answers in VALID
    }
    for answers in places.values():
        project = bake(**answers)
        for name in project.files():
            if name.endswith(".md"):
                found[f"{name_of(answers)}/{name}"] = project.read(name), project.slug
    return found


@pytest.fixture(scope="module")
def commands(texts: dict[str, tuple[str, str]]) -> dict[str, set[str]]:
    """All commands, each with the pages that have it."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, (text, slug) in texts.items():
        for command in commands_of(text, slug):
            found[command].add(name)
    return found


def test_no_line_of_a_block_is_of_a_program_that_is_overlooked(
    texts: dict[str, tuple[str, str]],
) -> None:
    overlooked = set()
    for name, (text, _) in texts.items():
        for line in filter(None, map(str.strip, lines_of(text))):
            first = line.split()[0]
            if not (COMMAND.fullmatch(line) or first in SHELL_WORDS or SETTING.fullmatch(first)):
                overlooked.add((name, line))

    assert overlooked == set()


def test_each_command_is_run_or_it_is_said_why_not(commands: dict[str, set[str]]) -> None:
    patterns = [one for group in (*RUN.values(), *NOT_RUN.values()) for one in group]
    fitting = {
        command: [pattern for pattern in patterns if re.fullmatch(pattern, command)]
        for command in commands
    }

    assert len(fitting) > 100
    assert not {
        command: (commands[command], found) for command, found in fitting.items() if len(found) != 1
    }
    assert set(patterns) == {pattern for found in fitting.values() for pattern in found}


@pytest.mark.parametrize("test", RUN)
def test_what_runs_them_is_a_test(test: str) -> None:
    path, _, name = test.partition("::")
    tree = ast.parse((TEMPLATE / "tests" / path).read_text(encoding="utf-8"))

    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_lock_file_is_made_by_its_command(bake: Bake) -> None:
    """The one with which an image and a machine are made."""
    project = bake(interface="wsgi", deployment="compose")
    assert "uv.lock" not in project.files()

    project.must(uv(), "lock")

    assert "uv.lock" in project.files()


def test_secret_of_a_host_is_one(toolbox: Project) -> None:
    page = (TEMPLATE / "docs" / "hosts.md").read_text(encoding="utf-8")
    code = re.search(r"`python -c \"(import secrets; .*?)\"`", page)[1]
    secret = toolbox.must("python", "-c", code).strip()

    checked = toolbox.run(
        "python", "manage.py", "check", "--deploy", "--fail-level", "WARNING",
        **PRODUCTION | {"DJANGO_SECRET_KEY": secret, "DATABASE_URL": "postgresql://u:p@h:5432/n"},
        REDIS_URL="redis://127.0.0.1:9/0",
    )  # fmt: skip

    assert checked.returncode == 0, checked.stdout


def test_each_choice_of_tests_finds_some(commands: dict[str, set[str]]) -> None:
    """What is chosen by a name is in one, by a mark is one, by a path is there."""
    names = [*CHOICES["interface"]]
    for path in (TEMPLATE / "tests").rglob("*.py"):
        names.append(path.stem)
        names += re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    marks = re.findall(
        r'^    "(\w+): ', (TEMPLATE / "pyproject.toml").read_text(encoding="utf-8"), re.M
    )
    chosen = [command.removeprefix("pip install uv && ") for command in commands]
    for command in [one for one in chosen if one.startswith("uv run pytest ")]:
        for word in re.findall(r"-k ([\w-]+)", command):
            assert all(any(part in name for name in names) for part in word.split("-")), command
        for mark in re.findall(r"-m (\w+)", command):
            assert mark in marks, command
        for file in re.findall(r"tests/\S+", command):
            inside = TEMPLATE / "{{ cookiecutter.project_slug }}" / file
            assert (TEMPLATE / file).exists() or list(inside.parent.glob(f"*{inside.name}*")), (
                command
            )
