"""What comes out of the questions: the right files, as somebody would have written them."""

import configparser
import itertools
import json
import re
import shlex
import stat
import sys
import tomllib
from pathlib import Path

import pytest

from tests.combinations import CHOICES, QUESTIONS, SITES, TEMPLATE, Answers, is_valid, name_of
from tests.conftest import SHORT_RUN, Bake
from tests.project import Project

pytestmark = pytest.mark.bake


def expected_files(project: Project) -> set[str]:
    """Return the files that the answers of `project` call for, and no others."""
    slug = project.slug
    wsgi = project.answers["interface"] in ("wsgi", "both")
    asgi = project.answers["interface"] in ("asgi", "both")
    both = project.is_(interface="both")
    channels = project.is_(realtime="channels")
    users, chat, welcome = f"{slug}/users", f"{slug}/chat", f"{slug}/welcome"
    notifications = f"{slug}/notifications"
    templates = f"{slug}/templates"
    files = {
        ".github/dependabot.yml", ".github/workflows/ci.yml", "AGENTS.md",
        ".editorconfig", ".env", ".env.example", ".gitattributes", ".gitignore",
        ".python-version", "README.md", "justfile", "manage.py", "pyproject.toml",
        "config/__init__.py", "config/database.py", "config/environment.py", "config/settings.py",
        "config/urls.py",
        "serving/README.md", "serving/__init__.py", "serving/attempts.py", "serving/csp.py",
        "serving/edge.py", "serving/health.py", "serving/header_limits.py", "serving/logs.py",
        "serving/metrics.py", "serving/outages.py", "serving/no_store.py", "serving/startapp.py",
        "serving/static_files.py", "serving/invalid_text.py", "serving/threads.py",
        "serving/unavailable.py", "serving/env_values.py",
        f"{slug}/__init__.py", f"{slug}/static/icon.svg", f"{slug}/static/site.css",
        f"{templates}/400.html", f"{templates}/403.html", f"{templates}/403_csrf.html",
        f"{templates}/404.html", f"{templates}/500.html", f"{templates}/base.html",
        f"{templates}/registration/login.html",
        f"{users}/__init__.py", f"{users}/admin.py", f"{users}/login.py", f"{users}/models.py",
        f"{users}/migrations/__init__.py", f"{users}/migrations/0001_initial.py",
        f"{welcome}/__init__.py", f"{welcome}/tests.py", f"{welcome}/urls.py",
        f"{welcome}/views.py", f"{welcome}/templates/welcome/home.html",
        "tests/__init__.py", "tests/conftest.py", "tests/settings.py", "tests/test_accounts.py",
        "tests/test_pages.py", "tests/test_production.py",
    }  # fmt: skip
    if wsgi:
        files |= {"config/wsgi.py", "config/gunicorn.conf.py", "serving/gunicorn_worker.py"}
    if asgi:
        files |= {
            "config/asgi.py", "config/uvicorn_conf.py",
            "serving/handler.py", "serving/uvicorn_http.py", "serving/middleware.py",
            "serving/request_thread.py", "serving/shutdown.py", "serving/uvicorn_server.py",
        }  # fmt: skip
    if both:
        files |= {"config/Caddyfile", "config/serve.py", "serving/supervisor.py"}
    if not project.is_(realtime="none"):
        live = "serving/live"
        files |= {
            f"{live}/__init__.py", f"{live}/apps.py", f"{live}/batches.py",
            f"{live}/hints.py", f"{live}/hub.py", f"{live}/sessions.py", f"{live}/subscribers.py",
            f"{live}/static/live/live.js",
        }  # fmt: skip
    if channels:
        files |= {
            "config/routing.py", "serving/sockets.py", "serving/status.py",
            "tests/browser.py", "tests/test_chat.py",
            "serving/live/static/live/socket.js", f"{chat}/static/chat/outbox.js",
            f"{chat}/__init__.py", f"{chat}/admin.py", f"{chat}/apps.py", f"{chat}/checks.py",
            f"{chat}/consumers.py", f"{chat}/forms.py", f"{chat}/frames.py", f"{chat}/rooms.py",
            f"{chat}/limits.py", f"{chat}/models.py", f"{chat}/posting.py", f"{chat}/presence.py",
            f"{chat}/subscriber.py", f"{chat}/urls.py", f"{chat}/views.py",
            f"{chat}/migrations/__init__.py", f"{chat}/migrations/0001_initial.py",
            f"{chat}/static/chat/chat.css", f"{chat}/static/chat/chat.js",
            f"{chat}/templates/chat/room.html", f"{chat}/templates/chat/rooms.html",
        }  # fmt: skip
    if project.is_(realtime="sse"):
        files |= {
            "tests/browser.py", "tests/test_notifications.py",
            f"{notifications}/__init__.py", f"{notifications}/admin.py",
            f"{notifications}/apps.py", f"{notifications}/delivery.py", f"{notifications}/forms.py",
            f"{notifications}/models.py", f"{notifications}/sending.py",
            f"{notifications}/streams.py", f"{notifications}/urls.py", f"{notifications}/views.py",
            f"{notifications}/migrations/__init__.py",
            f"{notifications}/migrations/0001_initial.py",
            f"{notifications}/static/notifications/notifications.css",
            f"{notifications}/static/notifications/notifications.js",
            f"{notifications}/templates/notifications/list.html",
        }  # fmt: skip
    if project.is_(database="postgresql") or not project.is_(realtime="none"):
        files |= {"compose.dev.yaml"}
    if not project.is_(deployment="none"):
        files |= {"Dockerfile", ".dockerignore"}
        files |= {"deploy/README.md"}
    if project.is_(deployment="systemd") or (both and not project.is_(deployment="none")):
        files |= {"tests/test_deploy.py"}
    roles = ["pages", "live"] if both else ["web"]
    if project.is_(deployment="compose"):
        files |= {
            "deploy/compose.yaml", "deploy/Caddyfile", "deploy/.env", "deploy/.env.example",
        }  # fmt: skip
    if project.is_(deployment="kubernetes"):
        kubernetes = "deploy/kubernetes"
        files |= {f"{kubernetes}/base/{role}.yaml" for role in roles} | {
            f"{kubernetes}/base/kustomization.yaml", f"{kubernetes}/base/ingress.yaml",
            f"{kubernetes}/base/network-policies.yaml",
            f"{kubernetes}/migrate/kustomization.yaml", f"{kubernetes}/migrate/job.yaml",
            f"{kubernetes}/production/kustomization.yaml",
            f"{kubernetes}/production/migrate/kustomization.yaml",
            f"{kubernetes}/production/settings/kustomization.yaml",
        }  # fmt: skip
    if project.is_(deployment="systemd"):
        systemd = "deploy/systemd"
        files |= {f"{systemd}/{slug}-{role}.{kind}" for role in roles
                  for kind in ("service", "socket")} | {
            f"{systemd}/{slug}-migrate.service", f"{systemd}/environment",
            f"{systemd}/install.sh", f"{systemd}/nginx.conf",
        }  # fmt: skip
    return files


def test_just_the_files_that_the_answers_call_for(placed: Project) -> None:
    assert placed.files() == expected_files(placed)
    # No folder is left of what was not chosen.
    assert not [
        path for path in placed.path.rglob("*") if path.is_dir() and not any(path.iterdir())
    ]


# What an owner has to know, at most: lines and files without serving/, which is the template's,
# and without migrations, which are Django's. Then lines with them.
SIZES = [
    (
        {"interface": "wsgi", "realtime": "none", "database": "sqlite", "deployment": "none"},
        (1_480, 45, 3_600),
    ),
    (
        {
            "interface": "asgi",
            "realtime": "channels",
            "database": "postgresql",
            "deployment": "compose",
        },
        (3_900, 78, 8_520),
    ),
    (
        {
            "interface": "both",
            "realtime": "channels",
            "database": "postgresql",
            "deployment": "compose",
        },
        (4_240, 83, 9_170),
    ),
]


@pytest.mark.parametrize(("answers", "most"), SIZES, ids=lambda value: "-".join(map(str, value)))
def test_a_project_stays_small(answers: Answers, most: tuple[int, int, int], bake: Bake) -> None:
    project = bake(**answers)
    lines = {name: project.read(name).count("\n") for name in project.files() - {".env"}}
    own = {
        name: count
        for name, count in lines.items()
        if not name.startswith("serving/") and "/migrations/" not in name
    }

    assert sum(own.values()) <= most[0]
    assert len(own) <= most[1]
    assert sum(lines.values()) <= most[2]


def test_each_file_of_the_machinery_says_whose_it_is(project: Project) -> None:
    code = [
        name
        for name in project.files()
        if name.startswith("serving/") and name.endswith((".py", ".js")) and project.read(name)
    ]

    assert len(code) > 8
    for name in code:
        first = project.read(name).splitlines()[0]
        assert first.endswith(" The template updates this file: see serving/README.md."), name


def test_readme_of_the_machinery_names_each_of_its_files(project: Project) -> None:
    named = set(re.findall(r"^\| `([\w/]+\.py)` \|", project.read("serving/README.md"), re.M))
    code = {
        name.removeprefix("serving/")
        for name in project.files()
        if name.startswith("serving/") and name.endswith(".py") and "__init__" not in name
    }

    assert named == code


def test_readme_says_what_each_file_of_the_first_folder_is_for(placed: Project) -> None:
    table = placed.read("README.md").partition("\n## Files and folders\n")[2].partition("\n## ")[0]
    folders = {name.partition("/")[0] + "/" for name in placed.files() if "/" in name}
    files = {name for name in placed.files() if "/" not in name}
    known = {".dockerignore", ".editorconfig", ".gitattributes", ".gitignore", ".python-version"}

    named = set(re.findall(r"`([^`\n]+)`", re.sub(r"(?m)^\| (.*?) \|.*", r"\1", table)))
    assert named == (folders | files | {"uv.lock"}) - known - {"README.md"}


def test_no_file_of_an_owner_is_too_long_to_read(placed: Project) -> None:
    for name in placed.files():
        if not name.startswith("serving/"):
            assert placed.read(name).count("\n") <= 250, name


def test_manage_with_another_python_says_what_to_type(project: Project) -> None:
    """With -S, Python does not find the packages that are installed."""
    for arguments in (["migrate"], ["runserver"], ["migrate", "two words"]):
        run = project.run(sys.executable, "-S", "manage.py", *arguments)

        assert run.returncode == 1
        assert "Traceback" not in run.stdout
        typed = shlex.join(arguments)
        assert f"type `uv run just manage {typed}`" in run.stdout
        assert f"type `.venv/bin/python manage.py {typed}`" in run.stdout


def test_nothing_of_the_template_is_left_in_a_file(placed: Project) -> None:
    for name in placed.files():
        text = placed.read(name)
        # Where it comes from stands at the end of the README, and its documents have an address.
        places = rf"{QUESTIONS['__address']}|~/\.cookiecutters/|cookiecutter-django-gateway"
        own = re.sub(places, "", text) if name == "README.md" else text
        assert "cookiecutter" not in own, name
        assert not re.search(r"my.?site", text, re.IGNORECASE), f"{name} has the default name"
        assert not re.search(r"\{%-? *(raw|endraw|set) ", text), name
        if name.endswith(".yml"):
            text = re.sub(r"\$\{\{ github\.\w+ \}\}", "", text)
        if not name.endswith(".html"):
            text = text.replace('nonce="{{ csp_nonce }}"', "")
            assert not re.search(r"\{\{|\{%|\{#", text), name


def test_no_blank_line_scars(placed: Project) -> None:
    for name in placed.files():
        text = placed.read(name)
        if not text:
            assert name.endswith("__init__.py"), f"{name} is empty"
            continue
        most = 2 if name.endswith(".py") else 1
        assert "\n" * (most + 2) not in text, f"{name}: too many blank lines"
        assert not text.startswith("\n"), f"{name}: starts with a blank line"
        assert text.endswith("\n"), f"{name}: does not end with a line end"
        assert not text.endswith("\n\n"), f"{name}: ends with a blank line"
        assert not re.search(r"[ \t]+\n", text), f"{name}: white space at the end of a line"
        assert "\r" not in text, name


def test_formatted_and_linted_as_baked(placed: Project, toolbox: Project) -> None:
    ruff = str(toolbox.bin / "ruff")

    placed.must(ruff, "format", "--no-cache", "--check", "--diff")
    placed.must(ruff, "check", "--no-cache")


def test_structured_files_are_valid(project: Project, toolbox: Project) -> None:
    metadata = tomllib.loads(project.read("pyproject.toml"))
    assert metadata["project"]["description"] == project.answers["project_name"]
    assert metadata["project"]["requires-python"] == ">=3.13"

    editor = configparser.ConfigParser()
    editor.read_string("[preamble]\n" + project.read(".editorconfig"))
    assert editor["*"]["charset"] == "utf-8"

    recipes = project.must(str(toolbox.bin / "just"), "--summary").split()
    services = ["services"] if (project.path / "compose.dev.yaml").exists() else []
    assert recipes == sorted(
        ["ci", "dev", "fix", "lint", "manage", "serve", "startapp", "test", *services]
    )


def test_dependencies_are_those_of_the_answers(project: Project) -> None:
    metadata = tomllib.loads(project.read("pyproject.toml"))
    names = {re.split(r"[\[<>=]", line)[0] for line in metadata["project"]["dependencies"]}
    wsgi = {"gunicorn"} if project.answers["interface"] in ("wsgi", "both") else set()
    asgi = {"asgiref", "uvicorn", "uvloop", "httptools", "websockets"}
    asgi = asgi if project.answers["interface"] in ("asgi", "both") else set()
    realtime = {
        "none": set(),
        "sse": {"redis"},
        "channels": {"channels", "channels-redis", "redis"},
    }[project.answers["realtime"]]
    database = {"psycopg"} if project.is_(database="postgresql") else set()

    assert names == {
        "django",
        "environs",
        "python-dotenv",
        "servestatic",
        "structlog",
        *wsgi,
        *asgi,
        *realtime,
        *database,
    }
    for line in metadata["project"]["dependencies"] + metadata["dependency-groups"]["dev"]:
        assert ">=" in line, f"{line}: which versions?"


def test_settings_name_just_the_applications_that_exist(project: Project) -> None:
    settings = project.read("config/settings.py")
    named = set(re.findall(rf'"{project.slug}\.(\w+)",', settings))
    existing = {path.parent.name for path in (project.path / project.slug).glob("*/__init__.py")}

    assert named == existing
    assert ("WSGI_APPLICATION" in settings) == (project.path / "config/wsgi.py").exists()


def test_secret_is_in_env_only_and_env_is_private(placed: Project) -> None:
    secret = re.search(r"^DJANGO_SECRET_KEY=(\S{50,})$", placed.read(".env"), re.M)
    assert secret
    others = {".env", "deploy/.env"}
    for name in placed.files() - others:
        assert secret[1] not in placed.read(name), name
    for name in others & placed.files():
        assert stat.S_IMODE((placed.path / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((placed.path / ".env").stat().st_mode) == 0o600
    assert "/.env\n" in placed.read(".gitignore") or ".env\n" in placed.read(".gitignore")
    assert re.search(r"^DJANGO_SECRET_KEY=$", placed.read(".env.example"), re.M)


def test_every_project_has_a_secret_of_its_own(bake: Bake) -> None:
    assert bake().read(".env") != bake().read(".env")


def test_scripts_keep_their_line_ends_where_git_would_change_them(
    project: Project, tmp_path: Path
) -> None:
    """As on Windows, whose git has this setting."""
    repository = tmp_path / "repository"
    project.must("git", "init", "--quiet", str(repository))
    git = ("git", f"--git-dir={repository / '.git'}", f"--work-tree={project.path}")
    project.must(*git, "add", "manage.py", "justfile", ".gitattributes")
    checkout = tmp_path / "checkout"
    project.must(*git, "-c", "core.autocrlf=true", "checkout-index", "-a", f"--prefix={checkout}/")

    assert b"\r" not in (checkout / "manage.py").read_bytes()


def test_short_run_has_every_choice() -> None:
    seen = [answers for answers in SITES if name_of(answers) in SHORT_RUN]

    assert len(seen) == len(SHORT_RUN)
    for question in seen[0]:
        assert {answers[question] for answers in seen} == set(CHOICES[question])


def test_every_package_goes_where_the_site_is_to_run(placed: Project) -> None:
    """Into the image and to the machine, and is compiled there."""
    packages = {
        str(path.parent.relative_to(placed.path)) for path in placed.path.glob("*/__init__.py")
    }
    packages -= {"tests"}
    assert packages == {"config", "serving", placed.slug}
    if placed.is_(deployment="none"):
        return
    taken = placed.read(".dockerignore")
    compiled = re.search(r"compileall -q (.*)", placed.read("Dockerfile"))
    assert compiled
    assert set(compiled[1].split()) == packages
    assert packages <= set(re.findall(r"^!(\S+)$", taken, re.M))
    if placed.is_(deployment="systemd"):
        script = placed.read("deploy/systemd/install.sh").replace("$site", placed.slug)
        for command in ("compileall -q", "tar --create"):
            line = re.search(rf"{command} (.*)", script.replace("\\\n", " "))
            assert line
            assert packages <= set(line[1].replace('"', "").split())


def test_documented_variables_are_those_that_are_read(project: Project) -> None:
    read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', project.read("config/environment.py")))
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", project.read("README.md"), re.M))

    assert documented == read


def test_paths_for_asgi_stand_in_one_place(project: Project) -> None:
    holders = {
        name
        for name in project.files()
        if name.endswith((".py", "justfile"))
        and re.search(r'"/(events|async)/"', project.read(name))
    }

    assert holders == ({"config/settings.py"} if project.is_(interface="both") else set())


def test_both_servers_agree_on_their_timeouts(bake: Bake) -> None:
    project = bake(interface="both", realtime="channels")
    gunicorn = project.read("config/gunicorn.conf.py")
    uvicorn = project.read("config/uvicorn_conf.py")

    for mine, other in (
        ("keepalive", "timeout_keep_alive"),
        ("graceful_timeout", "timeout_graceful_shutdown"),
    ):
        ours = re.search(rf"^{mine} = (\d+)$", gunicorn, re.M)
        theirs = re.search(rf'"{other}": (\d+),', uvicorn)
        assert ours
        assert theirs
        assert ours[1] == theirs[1]
    assert f"for {ours[1]} seconds at most" in " ".join(project.read("README.md").split())


def test_the_same_answers_give_the_same_files(bake: Bake) -> None:
    first, second = (bake(interface="both", realtime="channels") for _ in range(2))

    secret = {".env", "deploy/.env"}
    assert {name: first.read(name) for name in first.files() - secret} == {
        name: second.read(name) for name in second.files() - secret
    }


@pytest.mark.parametrize("answers", SITES, ids=name_of)
def test_deployment_changes_no_code(answers: Answers, bake: Bake) -> None:
    """So what is proven of one is true for all; what differs has tests of its own."""
    own = re.compile(r"deploy/|Dockerfile|\.dockerignore|\.env|README\.md|tests/test_deploy\.py")
    different = [
        bake(**answers, deployment=deployment)
        for deployment in CHOICES["deployment"]
        if is_valid(answers | {"deployment": deployment})
    ]

    first, *others = [
        {name: project.read(name) for name in project.files() if not own.match(name)}
        for project in different
    ]
    assert others
    assert all(code == first for code in others)


def test_template_is_formatted_and_linted(toolbox: Project) -> None:
    ruff = str(toolbox.bin / "ruff")
    for command in (["format", "--check", "--diff"], ["check"]):
        here = Project(TEMPLATE, {})
        here.must(ruff, *command, "--no-cache", "tests", "hooks", "local_extensions.py")


def test_all_that_is_emitted_is_looked_at_for_weak_points(project: Project) -> None:
    """Bandit's rules, and what they do not look at has a reason beside it."""
    rules = tomllib.loads(project.read("pyproject.toml"))["tool"]["ruff"]["lint"]
    assert "S" in rules["select"]
    assert not [rule for rule in rules["ignore"] if rule.startswith("S")]
    lines = project.read("pyproject.toml").splitlines()
    for before, line in itertools.pairwise(lines):
        if re.search(r'= \[.*"S\d', line):
            assert before.startswith("# "), line
    known = {"S311", "S603"}  # a pause that is random is no secret; commands of tests
    for name in project.files():
        assert set(re.findall(r"noqa: (S\d+)", project.read(name))) <= known, name


def test_no_path_of_the_template_is_too_deep_for_windows() -> None:
    for path in TEMPLATE.glob("{{*/**/*"):
        assert not set(path.name) & set('<>:"\\|?*'), path
        assert len(str(path.relative_to(TEMPLATE))) < 200, path


def test_condition_in_a_name_is_one_variable() -> None:
    """So that the tree of the template reads like that of a project."""
    variables = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    names = {part for path in TEMPLATE.glob("{{*/**/*") for part in path.parts}
    conditions = {one for name in names for one in re.findall(r"{% *(if .*?|else) *%}", name)}

    assert len(conditions) > 10
    assert conditions <= {f"if cookiecutter.{name}" for name in variables}


def test_licence_and_changelog_are_there() -> None:
    assert "MIT License" in Path(TEMPLATE / "LICENSE").read_text()


def test_mutants_that_are_known_are_of_lines_that_exist(bake: Bake) -> None:
    entries = tomllib.loads((TEMPLATE / "tests" / "mutants.toml").read_text())["mutant"]
    projects = [bake(interface="both", realtime=name) for name in CHOICES["realtime"]]

    for entry in entries:
        assert entry["why"]
        assert any(
            entry["was"] in " ".join(project.read(entry["file"]).split()) for project in projects
        ), entry
