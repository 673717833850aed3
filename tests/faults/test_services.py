"""Redis and PostgreSQL that are restarted, gone, full, or do not answer."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from tests.combinations import Answers, name_of
from tests.faults.scene import EVERY_PAIR, PAIRS, PRODUCTS, Scene, seen_in
from tests.faults.table import Note, named

pytestmark = pytest.mark.faults


def with_redis(pairs: list[Answers]) -> list[Answers]:
    return [pair for pair in pairs if pair["realtime"] != "none"]


TAKE = """
import sys, time, psycopg
kept = []
try:
    while True:
        kept.append(psycopg.connect(sys.argv[1]))
except psycopg.OperationalError:
    print("full", flush=True)
while True:
    try:
        kept.append(psycopg.connect(sys.argv[1]))
    except psycopg.OperationalError:
        time.sleep(0.05)
"""

REDIS = {
    "restarted": "Redis is restarted",
    "stopped": "Redis is stopped for 6 s",
    "refuses": "Redis refuses writes for 6 s",
    "hangs": "Redis hangs for 6 s (SIGSTOP)",
}
POSTGRESQL = {
    "restarted": "PostgreSQL is restarted",
    "stopped": "PostgreSQL is stopped for 20 s",
    "hangs": "PostgreSQL hangs for 15 s (SIGSTOP)",
}


@pytest.mark.parametrize(
    "stage",
    [pair for name in REDIS.values() for pair in seen_in(with_redis(PAIRS), name)],
    indirect=True,
)
def test_redis(scene: Scene, note: Note) -> None:
    """Nobody notices: what is stored is found without it, a little later."""
    with scene.fault() as fault:
        if fault.name == REDIS["restarted"]:
            scene.restart_redis()
        elif fault.name == REDIS["stopped"]:
            scene.redis.close()
            time.sleep(6)
            scene.start_redis()
        elif fault.name == REDIS["refuses"]:
            scene.redis_cli("config", "set", "min-replicas-to-write", "1")
            time.sleep(6)
            scene.redis_cli("config", "set", "min-replicas-to-write", "0")
        else:
            redis = scene.redis_process()
            redis.suspend()
            time.sleep(6)
            redis.resume()
    fault.stays_ready()
    assert fault.all_are_answered, fault.outcomes
    note(fault)


@pytest.mark.parametrize(
    "stage",
    seen_in(PAIRS, POSTGRESQL["restarted"])
    + seen_in(PAIRS, POSTGRESQL["stopped"])
    + seen_in(PRODUCTS, POSTGRESQL["hangs"]),
    indirect=True,
)
def test_postgresql(scene: Scene, note: Note) -> None:
    """Pages say so, and in time; nobody loses what was acknowledged."""
    with scene.fault() as fault:
        if fault.name == POSTGRESQL["restarted"]:
            scene.database_do("-m", "fast", "restart")
        elif fault.name == POSTGRESQL["stopped"]:
            scene.database_do("-m", "fast", "stop")
            time.sleep(20)
            scene.database_up()
        else:
            for process in scene.database_processes():
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            time.sleep(15)
            scene.database_up()
    fault.stays_ready()
    # A restart may be over before anybody asks.
    assert fault.name == POSTGRESQL["restarted"] or fault.count("503") > 0, fault.outcomes
    note(fault)


@EVERY_PAIR
@named("PostgreSQL has no connection free for 6 s")
def test_no_connection_to_postgresql_is_free(scene: Scene, note: Note) -> None:
    with scene.fault() as fault:
        taker = subprocess.Popen(
            [scene.project.bin / "python", "-c", TAKE, scene.variables["DATABASE_URL"]],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert taker.stdout
        assert taker.stdout.readline() == "full\n"
        time.sleep(6)
        taker.kill()
        taker.wait()
    fault.stays_ready()
    note(fault)


@contextmanager
def locked_row(scene: Scene) -> Iterator[None]:
    """Hold the lock of a row that others want, for the block."""
    holder = subprocess.Popen(
        [scene.database.programs / "psql", scene.variables["DATABASE_URL"]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdin
    assert holder.stdout
    try:
        holder.stdin.write(
            "begin;\nupdate users_user set first_name = 'x' where username = 'ada';\n"
        )
        holder.stdin.flush()
        assert [holder.stdout.readline() for _ in range(2)] == ["BEGIN\n", "UPDATE 1\n"]
        yield
    finally:
        holder.kill()
        holder.wait()


def ask_for_it(scene: Scene, count: int) -> list[tuple[str, float]]:
    """Ask for the locked row so often at once; return status and Retry-After, and seconds."""
    asking = [
        subprocess.Popen(
            ["curl", "-s", "-o", "/dev/null", "-m", "60",
             "-w", "%{http_code} %header{retry-after},%{time_total}",
             f"{scene.site.origin}/fault/locked/"],
            stdout=subprocess.PIPE, text=True,
        )
        for _ in range(count)
    ]  # fmt: skip
    told = [each.communicate(timeout=90)[0].partition(",") for each in asking]
    return [(status, float(seconds)) for status, _, seconds in told]


def log_has(scene: Scene, **fields: object) -> bool:
    lines = [json.loads(line) for line in scene.site.log.splitlines() if line.startswith("{")]
    return any(fields.items() <= line.items() for line in lines)


@pytest.mark.parametrize("stage", PRODUCTS, ids=name_of, indirect=True)
@named("a row stays locked; 60 requests want it")
def test_row_lock_that_is_never_released(scene: Scene, note: Note) -> None:
    """Those who want the row are told to come again, after a third of DATABASE_TIMEOUT; others are
    served all along, and no thread stays with it."""
    limit = 5.0
    scene.site.stop()
    scene.variables["DATABASE_TIMEOUT"] = f"{limit:.0f}"
    scene.start_again()
    try:
        with scene.fault() as fault:
            with locked_row(scene):
                # Twice: the second ones get the threads of the first ones.
                found = ask_for_it(scene, 30) + ask_for_it(scene, 30)
            # As soon as the lock is gone.
            assert [status for status, _ in ask_for_it(scene, 5)] == ["200 "] * 5
        assert [status for status, _ in found] == ["503 10"] * 60, found
        # 30 of them wait for a thread as well: there are fewer.
        assert min(seconds for _, seconds in found) > limit / 3 - 0.1
        assert "canceling statement due to lock timeout" in scene.site.log
        # The access lines say which pages waited.
        assert log_has(scene, path="/fault/locked/", status=503, away="database")
        fault.stays_ready()
        assert fault.all_are_answered, fault.outcomes
        fault.remark = "those who want it: 60 of 60 × 503"
        # All others meanwhile.
        fault.keeps_its_pace(fault.began, fault.over)
        note(fault)
    finally:
        scene.variables.pop("DATABASE_TIMEOUT")
        scene.site.stop()
        scene.start_again()
