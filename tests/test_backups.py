"""The lines of the READMEs that set a database up, save it and bring it back, as they stand there.

`docker` and `sudo` are stand-ins, which run the command here as if they had been there.
"""

import os
import re
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.combinations import TEMPLATE, Answers
from tests.conftest import Bake
from tests.project import PRODUCTION, Project
from tests.services import PostgreSQL, ended, missing
from tests.terminal import Terminal

pytestmark = pytest.mark.deploy

# Runs what a service would run; of files it knows those in its volumes. Nothing is started or
# stopped: somebody is connected meanwhile.
DOCKER = """\
#!/bin/bash
set -e
[ "$1 $2 $3" = "compose -f deploy/compose.yaml" ]
what=$4
shift 4
case $what in
exec)
    [ "$1" != -T ] || shift
    shift
    set -- "${@//\\/data\\//$DATA/}"
    exec "${@//\\/media/$DATA/media}" ;;
cp) cp "$DATA/${1##*/}" "$2" ;;
stop|up) ;;
*) exit 64 ;;
esac
"""
# Becomes the user that it is told. What is installed is here already.
SUDO = """\
#!/bin/bash
if [ "$1" = -u ]; then
    export PGUSER=$2
    shift 2
fi
[[ $1 =~ ^(apt-get|systemctl)$ ]] || exec "$@"
"""
CODE = """\
from django.contrib.auth import get_user_model as m
ada = m().objects.filter(username="ada")
"""


@dataclass
class Place:
    """A folder in which somebody does what the README of a place says."""

    project: Project
    folder: Path
    variables: dict[str, str]
    # That of a project with the dependencies.
    python: Path

    @property
    def readme(self) -> str:
        return self.project.read("deploy/README.md")

    def block(self, word: str) -> str:
        """Return the block of commands in which a word stands."""
        blocks = re.findall(r"^```\n(.*?)^```$", self.readme, re.M | re.S)
        (found,) = [block for block in blocks if word in block]
        return found

    @property
    def environment(self) -> dict[str, str]:
        return self.project.environment(**self.variables)

    def do(self, commands: str) -> None:
        """Run commands as somebody with an ordinary umask."""
        ran = subprocess.run(
            ["bash", "-ec", f"umask 022\n{commands}"], cwd=self.project.path,
            env=self.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert ran.returncode == 0, f"{commands}\n{ran.stdout}{ran.stderr}"

    def manage(self, *arguments: str) -> str:
        return self.project.must(str(self.python), "manage.py", *arguments, **self.variables)

    def shell(self, code: str) -> str:
        return self.manage("shell", "-v", "0", "-c", CODE + code).strip()

    def fill(self) -> None:
        self.manage("migrate", "--no-input")
        self.shell("m().objects.create_user('ada')")

    def query(self, sql: str) -> None:
        if self.project.is_(database="postgresql"):
            command = ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-c", sql]
            subprocess.run(
                [*command, self.variables["DATABASE_URL"]], env=self.environment, check=True
            )
            return
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute(sql)

    @property
    def database(self) -> Path:
        return self.folder / "data" / "db.sqlite3"

    @contextmanager
    def visitor(self) -> Iterator[None]:
        """Be connected, as a server is whose pages wait for somebody."""
        if self.project.is_(database="sqlite"):
            with closing(sqlite3.connect(self.database)) as connection:
                found = connection.execute("select username from users_user")
                # It reads on, and so holds its lock.
                assert found.fetchone()
                yield
            return
        visitor = subprocess.Popen(
            ["psql", "-X", self.variables["DATABASE_URL"]], env=self.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with ended(visitor):  # type: ignore[arg-type]
            visitor.stdin.write("select username from users_user;\n")
            visitor.stdin.flush()
            assert "username" in visitor.stdout.readline()
            yield


@pytest.fixture
def place(request: pytest.FixtureRequest, bake: Bake, toolbox: Project, tmp_path: Path) -> Place:
    """A project of some answers, with the stand-ins in front of all other programs."""
    answers: Answers = request.param
    made = bake(**answers)
    project = Project(shutil.copytree(made.path, tmp_path / "in" / made.slug), made.answers)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"docker": DOCKER, "sudo": SUDO}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    data = tmp_path / "data"
    data.mkdir()
    python = toolbox.bin / "python"
    variables = PRODUCTION | {
        "DATA": str(data), "PATH": f"{programs}:{python.parent}:{os.environ['PATH']}",
        "DATABASE_URL": f"sqlite:///{data}/db.sqlite3",
    }  # fmt: skip
    if project.is_(database="postgresql"):
        server: PostgreSQL = request.getfixturevalue("postgresql")
        variables["PATH"] = f"{programs}:{python.parent}:{server.programs}:{os.environ['PATH']}"
        variables |= {"PGHOST": "127.0.0.1", "PGPORT": str(server.port)}
        variables["DATABASE_URL"] = (
            f"postgresql://{project.slug}:a-password@127.0.0.1:{server.port}/{project.slug}"
        )
        server.query("drop database if exists restored", "postgres")
        for kind in ("database", "role"):
            server.query(f"drop {kind} if exists {project.slug}", "postgres")
    return Place(project, tmp_path, variables, python)


def with_(place: str, database: str) -> Answers:
    return {"interface": "asgi", "realtime": "none", "database": database, "deployment": place}


def is_private(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) == 0o600


def assert_saved_and_restored(place: Place, dump: Path, save: str, restore: str) -> None:
    """Save what is there, lose some of it, and bring it back: while somebody is connected."""
    place.do(save)
    assert is_private(dump)
    # A newer release adds a table.
    place.query("create table newer (id integer references users_user (id))")
    place.shell("ada.delete(); m().objects.create_user('eve')")
    kept = dump.rename(f"{dump}.kept")
    with suppress(AssertionError):
        place.do(restore)
    assert place.shell("print(m().objects.get().username)") == "eve", "without it nothing is lost"
    kept.rename(dump)
    with place.visitor():
        place.do(restore)
    assert place.shell("print(*m().objects.values_list('username', flat=True))") == "ada"
    with pytest.raises((subprocess.CalledProcessError, sqlite3.OperationalError)):
        place.query("select * from newer")
    # What a release does next.
    place.manage("migrate", "--no-input")
    place.manage("check", "--database", "default")


@pytest.mark.parametrize("place", [with_("compose", "postgresql")], indirect=True)
def test_postgresql_of_compose(place: Place, postgresql: PostgreSQL) -> None:
    slug = place.project.slug
    # As its image does, of POSTGRES_USER and POSTGRES_DB.
    postgresql.query(f"create role {slug} superuser login", "postgres")
    postgresql.query(f"create database {slug} owner {slug}", "postgres")
    place.fill()

    assert_saved_and_restored(
        place, place.project.path.parent / f"{slug}.dump",
        place.block("pg_dump"), place.block("pg_restore"),
    )  # fmt: skip


@pytest.mark.parametrize("place", [with_("systemd", "postgresql")], indirect=True)
def test_postgresql_of_a_machine(place: Place) -> None:
    """Set up with a password that is typed, saved and restored by its administrator."""
    commands = place.block("createuser")
    terminal = Terminal(
        [shutil.which("bash") or "bash", "-ec", commands], place.project.path, place.environment
    )
    terminal.type("a-password\n", after="Enter password for new role: ")
    terminal.type("a-password\n", after="Enter it again: ")
    assert terminal.wait() == 0, terminal.text
    assert f"postgresql://{place.project.slug}:password@localhost:5432/" in place.readme
    place.fill()

    assert_saved_and_restored(
        place, place.project.path / f"{place.project.slug}.dump",
        place.block("pg_dump"), place.block("pg_restore"),
    )  # fmt: skip


@pytest.mark.parametrize("place", [with_("compose", "sqlite")], indirect=True)
def test_sqlite_of_compose(place: Place) -> None:
    place.fill()

    assert_saved_and_restored(
        place, place.project.path.parent / f"{place.project.slug}.sqlite3",
        place.block("cp web:"), place.block("sh -c"),
    )  # fmt: skip


@pytest.mark.parametrize("place", [with_("systemd", "sqlite")], indirect=True)
def test_sqlite_of_a_machine(place: Place) -> None:
    if not shutil.which("sqlite3"):
        missing("sqlite3", "sqlite3")
    place.fill()
    slug = place.project.slug

    def here(commands: str) -> str:
        assert f"/var/lib/{slug}/db.sqlite3" in commands
        commands = commands.replace(f"/var/lib/{slug}/", f"{place.folder}/data/")
        return commands.replace("/var/backups/", f"{place.folder}/")

    assert_saved_and_restored(
        place, place.folder / f"{slug}.sqlite3",
        here(place.block(".backup ")), here(place.block(".restore ")),
    )  # fmt: skip


@pytest.mark.parametrize("place", [with_("compose", "sqlite")], indirect=True)
def test_uploads_of_compose(place: Place) -> None:
    media = place.folder / "data" / "media"
    (media / "photos").mkdir(parents=True)
    (media / "photos" / "one.jpg").write_bytes(b"one")
    save, restore = place.block("tar -c"), place.block("tar -x")

    for _ in range(2):
        place.do(save)
    assert is_private(place.project.path.parent / f"{place.project.slug}-media.tar")
    shutil.rmtree(media / "photos")
    place.do(restore)

    assert (media / "photos" / "one.jpg").read_bytes() == b"one"


SWITCHING = (TEMPLATE / "docs" / "switching.md").read_text(encoding="utf-8")


def test_data_moves_to_another_database(
    install: Bake, toolbox: Project, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    """docs/switching.md: what a change of the answer `database` does not do."""
    before = install(interface="both", realtime="channels", database="sqlite")
    old = PRODUCTION | {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"}
    new = PRODUCTION | {"DATABASE_URL": postgresql.new_database()}
    (dump,) = re.findall(r"`(manage\.py dumpdata\s.*?)`", SWITCHING, re.S)
    for project, variables in ((before, old), (toolbox, new)):
        project.must("python", "manage.py", "migrate", "--no-input", **variables)
    shell = ("python", "manage.py", "shell", "-v", "0", "-c")
    before.must(*shell, f"{CODE}m().objects.create_superuser('ada', password='secret')", **old)

    file = tmp_path / "data.json"
    file.write_text(before.must("python", *dump.split(), **old))
    toolbox.must("python", "manage.py", "loaddata", str(file), **new)

    # What comes next gets an id of its own.
    assert toolbox.must(
        *shell, f"{CODE}m().objects.create_user('eve'); print(ada.get().check_password('secret'))",
        **new,
    ).strip() == "True"  # fmt: skip


def test_table_of_an_app_that_goes_can_go_too(install: Bake, tmp_path: Path) -> None:
    project = install(interface="both", realtime="channels", database="sqlite")
    (command,) = set(re.findall(r"`(manage\.py migrate chat zero)`", SWITCHING))
    variables = PRODUCTION | {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"}
    project.must("python", "manage.py", "migrate", "--no-input", **variables)

    def tables() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as connection:
            found = connection.execute("select name from sqlite_master where name like 'chat_%'")
            return [name for (name,) in found]

    assert tables()
    project.must("python", *command.split(), **variables)
    assert not tables()
