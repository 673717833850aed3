"""What docs/background.md says of tasks and their worker, done as it is written there."""

import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from kubernetes_validate.utils import major_minor

from tests import services
from tests.background import (
    PAGE,
    SETTINGS,
    TASK,
    add_to_compose,
    add_to_kubernetes,
    unit_of_the_page,
)
from tests.combinations import VALID, Answers
from tests.conftest import Bake
from tests.kubernetes.cluster import Cluster, build, container_of
from tests.project import PRODUCTION, Project, uv
from tests.services import wait_until
from tests.systemd.units import roles_of, unit
from tests.terminal import CONTROL_C, Terminal
from tests.test_compose import read

# One that begins, takes its time and ends, each of which can be seen; and one that fails.
TASKS = """

@task
def slow(folder: str) -> None:
    Path(folder, "begun").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.1)
    Path(folder, "done").touch()


@task
def wrong() -> None:
    raise ValueError("no such order")
"""
# A row that belongs to a transaction that is rolled back, and one that belongs to none.
TWO_ORDERS = """
from django.db import transaction
from {slug}.shop.tasks import send_receipt
try:
    with transaction.atomic():
        send_receipt.enqueue("bob@example.com", 6)
        raise LookupError
except LookupError:
    pass
send_receipt.enqueue("ada@example.com", 7)
"""


@dataclass
class Shop:
    """A project with the task of the page and two more, in production, and its PostgreSQL."""

    project: Project
    variables: dict[str, str]
    database: Callable[[str], object]

    def shell(self, code: str) -> str:
        imports = f"from {self.project.slug}.shop.tasks import slow, wrong\n"
        return self.project.must(
            "python", "manage.py", "shell", "-v", "0", "-c", imports + code, **self.variables
        )

    def statuses(self) -> list[str]:
        return self.shell(
            "from django_tasks_db.models import DBTaskResult\n"
            "for row in DBTaskResult.objects.order_by('enqueued_at'): print(row.status)"
        ).split()

    @contextmanager
    def worker(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            ["python", "manage.py", "db_worker", *options],
            cwd=self.project.path,
            env=self.project.environment(**self.variables),
            stdin=subprocess.DEVNULL,
        )
        with services.ended(process):
            yield process


@pytest.fixture(scope="module")
def project(bake: Bake) -> Project:
    """A project to which somebody adds tasks, by its README and by the page."""
    project = bake(interface="wsgi", realtime="none", database="postgresql")
    project.install()
    readme = project.read("README.md").partition("## Users, and background work\n")[2]
    (install,) = re.findall(r"`uv (add django-tasks-db)`", readme)
    project.must(uv(), *install.split(), "--quiet")
    settings = project.path / "config" / "settings.py"
    # Both say the same.
    assert f"\n```python\n{SETTINGS}```\n" in readme
    assert f"Run `uv {install}`" in PAGE
    settings.write_text(settings.read_text() + SETTINGS)
    project.must("just", "startapp", "shop")
    (project.path / project.slug / "shop" / "tasks.py").write_text(TASK)
    return project


@pytest.fixture
def shop(project: Project, tmp_path: Path) -> Iterator[Shop]:
    tasks = project.path / project.slug / "shop" / "tasks.py"
    tasks.write_text(f"import time\nfrom pathlib import Path\n\n{TASK}{TASKS}")
    with (
        tempfile.TemporaryDirectory(prefix="tests-postgresql-") as folder,
        services.postgresql(Path(folder)) as server,
    ):
        shop = Shop(
            project,
            PRODUCTION | {"DATABASE_URL": server.new_database()},
            lambda command: subprocess.run(
                [*server.pg_ctl, "-w", "-m", "fast", command], check=True
            ),
        )
        project.must("python", "manage.py", "migrate", "--no-input", **shop.variables)
        yield shop


@pytest.mark.compat
def test_task_of_the_page_is_done_in_development(project: Project) -> None:
    project.must("just", "lint")
    project.must("just", "manage", "migrate")
    project.must("just", "manage", "shell", "-v", "0", "-c", TWO_ORDERS.format(slug=project.slug))
    (command,) = re.findall(r"^In development, `(.*?)`", PAGE, re.M)
    terminal = Terminal([uv(), *command.split()[1:]], project.path, project.environment())
    terminal.type("", after="received order 7")
    # It reloads when code changes, of modules that it has seen before they did.
    tasks = project.path / project.slug / "shop" / "tasks.py"
    tasks.write_text(tasks.read_text().replace("We have received", "Thank you for"))
    deadline = time.monotonic() + 60
    while "reloading" not in terminal.seen(1):
        assert time.monotonic() < deadline, terminal.text
        tasks.touch()
    terminal.type("", after="reloading")
    project.must("just", "manage", "shell", "-v", "0", "-c", TWO_ORDERS.format(slug=project.slug))
    terminal.type(CONTROL_C, after="Thank you for order 7")
    terminal.wait()
    assert "To: ada@example.com" in terminal.text
    assert "order 6" not in terminal.text


@pytest.mark.compat
def test_worker_ends_fails_and_is_killed_as_the_table_says(shop: Shop, tmp_path: Path) -> None:
    begun, go, done = (tmp_path / name for name in ("begun", "go", "done"))

    shop.shell(f"slow.enqueue({str(tmp_path)!r}); wrong.enqueue()")
    with shop.worker() as worker:
        wait_until(begun.exists, "the task begins", 60)
        worker.terminate()
        time.sleep(1)
        assert worker.poll() is None, "its task is not done"
        go.touch()
        assert worker.wait(timeout=30) == 0
    assert done.exists()
    assert shop.statuses() == ["SUCCESSFUL", "READY"]

    with shop.worker("--batch") as worker:
        assert worker.wait(timeout=60) == 0
    assert shop.statuses() == ["SUCCESSFUL", "FAILED"]
    assert "ValueError: no such order" in shop.shell(
        "from django_tasks_db.models import DBTaskResult\n"
        "print(DBTaskResult.objects.failed().get().traceback)"
    )

    for path in (begun, go, done):
        path.unlink()
    shop.shell(f"slow.enqueue({str(tmp_path)!r})")
    with shop.worker() as worker:
        wait_until(begun.exists, "the task begins", 60)
        worker.kill()
        worker.wait()
    with shop.worker("--batch") as worker:
        assert worker.wait(timeout=60) == 0
    assert shop.statuses() == ["SUCCESSFUL", "FAILED", "RUNNING"]
    assert not done.exists()
    counted = "from django_tasks_db.models import DBTaskResult; print(DBTaskResult.objects."
    assert shop.shell(f"{counted}running().count())").strip() == "1"

    shop.shell(
        "from django_tasks_db.models import DBTaskResult\n"
        "from django.utils.timezone import now, timedelta\n"
        "DBTaskResult.objects.finished().update(finished_at=now() - timedelta(days=15))"
    )
    (prune,) = re.findall(r"`(python manage\.py prune\w+)`", PAGE)
    shop.project.must(*prune.split(), **shop.variables)
    assert shop.statuses() == ["RUNNING"]

    shop.shell("wrong.enqueue()")
    with shop.worker() as worker:
        wait_until(lambda: "FAILED" in shop.statuses(), "it works", 60)
        shop.database("stop")
        assert worker.wait(timeout=60) == 1
    shop.database("start")


PLACES = {
    place: [answers for answers in VALID if answers["deployment"] == place]
    for place in ("compose", "systemd", "kubernetes")
}


def one_of_each_interface(place: str) -> list[Answers]:
    """Return a combination of each interface in a place: the largest."""
    return list({answers["interface"]: answers for answers in PLACES[place]}.values())


def by_interface(answers: Answers) -> str:
    return answers["interface"]


@pytest.mark.deploy
@pytest.mark.parametrize("answers", one_of_each_interface("compose"), ids=by_interface)
def test_compose_starts_a_worker_as_it_starts_a_server(answers: Answers, bake: Bake) -> None:
    project = bake(**answers)
    servers = read(project)["services"]
    add_to_compose(project)

    worker = read(project)["services"].pop("worker")

    own = {"command", "healthcheck", "stop_grace_period"}
    server = servers["pages" if project.is_(interface="both") else "web"]
    assert worker["command"] == ["python", "manage.py", "db_worker"]
    assert worker["healthcheck"] == {"disable": True}
    assert {name: value for name, value in worker.items() if name not in own} == {
        name: value for name, value in server.items() if name not in own | {"scale"}
    }


@pytest.mark.deploy
@pytest.mark.parametrize("answers", one_of_each_interface("systemd"), ids=by_interface)
def test_unit_has_the_confines_of_the_others(answers: Answers, bake: Bake, tmp_path: Path) -> None:
    project = bake(**answers)
    path = unit_of_the_page(project)

    copy = tmp_path / path.name
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", path.read_text(), flags=re.M))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True
    )
    assert not said.stdout + said.stderr
    role = next(iter(roles_of(project)))
    worker, server = (unit(project, f"{name}.service") for name in ("worker", role))
    assert worker["PartOf"] == [f"{project.slug}-{role}.service"]
    confines = path.read_text().partition("\nUser=")[2].partition("\n\n[Install]")[0]
    assert confines in (path.parent / f"{project.slug}-{role}.service").read_text()
    assert worker["User"] == server["User"]
    assert worker["MemoryMax"]
    assert worker["LimitNOFILE"] == server["LimitNOFILE"]


@pytest.mark.deploy
@pytest.mark.parametrize("answers", one_of_each_interface("kubernetes"), ids=by_interface)
def test_deployment_has_what_the_other_pods_have(answers: Answers, bake: Bake) -> None:
    project = bake(**answers)
    cluster = Cluster(project, build(add_to_kubernetes(project)), [])

    newest = major_minor(kubernetes_validate.latest_version())
    worker = cluster.roles["worker"]
    assert kubernetes_validate.validate(worker, newest, strict=True) == newest
    pod = cluster.pods["worker"]
    server = cluster.pods["pages" if project.is_(interface="both") else "web"]

    def shared(of: dict[str, Any]) -> list[object]:
        container = container_of(of)
        return [
            of["spec"]["securityContext"], of["spec"]["volumes"],
            of["spec"]["automountServiceAccountToken"], of["spec"]["enableServiceLinks"],
            *(container[name] for name in ("image", "envFrom", "securityContext", "volumeMounts")),
        ]  # fmt: skip

    assert shared(pod) == shared(server)
    optional = "REDIS_URL"
    wanted = {
        one["name"]: one["valueFrom"] for one in container_of(server)["env"] if "valueFrom" in one
    }
    given = {one["name"]: one["valueFrom"] for one in container_of(pod)["env"]}
    assert given.pop(optional) == {
        "secretKeyRef": {"name": "site", "key": optional, "optional": True}
    }
    wanted.pop(optional, None)
    assert given == wanted
    # What opens the ways to the database is for all pods of the site.
    assert (
        pod["metadata"]["labels"].items()
        >= {"app.kubernetes.io/name": project.slug.replace("_", "-")}.items()
    )
