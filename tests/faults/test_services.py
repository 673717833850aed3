"""Redis and PostgreSQL that are restarted, gone, full, or do not answer."""

import subprocess
import time
from contextlib import suppress
from typing import Any

import psutil
import pytest

from tests.combinations import Answers, name_of
from tests.faults.scene import PAIRS, PRODUCTS, Scene
from tests.faults.table import Note

pytestmark = pytest.mark.faults


def seen_in(pairs: list[Answers], *faults: str) -> list[Any]:
    """Return these faults for each of these pairs."""
    return [
        pytest.param(pair, fault, id=f"{name_of(pair)}-{fault}")
        for pair in pairs
        for fault in faults
    ]


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


@pytest.mark.parametrize(
    ("stage", "fault"),
    seen_in(with_redis(PAIRS), "restarted", "stopped")
    + seen_in(with_redis(PRODUCTS), "writes", "hangs"),
    indirect=["stage"],
)
def test_redis(scene: Scene, note: Note, fault: str) -> None:
    """Nobody notices: what is stored is found without it, a little later."""
    names = {
        "restarted": "Redis is restarted",
        "stopped": "Redis is stopped for 6 s",
        "writes": "Redis refuses writes for 6 s",
        "hangs": "Redis hangs for 6 s (SIGSTOP)",
    }
    with scene.fault(names[fault]) as seen:
        match fault:
            case "restarted":
                scene.restart_redis()
            case "stopped":
                scene.redis.close()
                time.sleep(6)
                scene.start_redis()
            case "writes":
                scene.redis_cli("config", "set", "min-replicas-to-write", "1")
                time.sleep(6)
                scene.redis_cli("config", "set", "min-replicas-to-write", "0")
            case "hangs":
                redis = scene.redis_process()
                redis.suspend()
                time.sleep(6)
                redis.resume()
    assert seen.count("200", "201") == sum(seen.outcomes.values()), seen.outcomes
    note(seen)


@pytest.mark.parametrize(
    ("stage", "fault"),
    seen_in(PAIRS, "restarted", "stopped") + seen_in(PRODUCTS, "hangs"),
    indirect=["stage"],
)
def test_postgresql(scene: Scene, note: Note, fault: str) -> None:
    """Pages say so, and in time; nobody loses what was acknowledged."""
    names = {
        "restarted": "PostgreSQL is restarted",
        "stopped": "PostgreSQL is stopped for 20 s",
        "hangs": "PostgreSQL hangs for 15 s (SIGSTOP)",
    }
    with scene.fault(names[fault]) as seen:
        match fault:
            case "restarted":
                scene.database_do("-m", "fast", "restart")
            case "stopped":
                scene.database_do("-m", "fast", "stop")
                time.sleep(20)
                scene.database_up()
            case "hangs":
                for process in scene.database_processes():
                    with suppress(psutil.NoSuchProcess):
                        process.suspend()
                time.sleep(15)
                scene.database_up()
    assert seen.lost == 0, seen.outcomes
    # A restart may be over before anybody asks.
    assert fault == "restarted" or seen.count("503") > 0, seen.outcomes
    assert seen.count("500") == 0, seen.outcomes
    note(seen)


def test_no_connection_to_postgresql_is_free(scene: Scene, note: Note) -> None:
    with scene.fault("PostgreSQL has no connection free for 6 s") as fault:
        taker = subprocess.Popen(
            [scene.project.bin / "python", "-c", TAKE, scene.variables["DATABASE_URL"]],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert taker.stdout
        assert taker.stdout.readline() == "full\n"
        time.sleep(6)
        taker.kill()
        taker.wait()
    assert fault.lost == 0, fault.outcomes
    assert fault.count("500") == 0, fault.outcomes
    note(fault)


def test_row_lock_that_is_never_released(scene: Scene, note: Note) -> None:
    """Those who want the row wait, up to the limit of a query; others are served."""
    holder = subprocess.Popen(
        [scene.database.programs / "psql", scene.variables["DATABASE_URL"]],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert holder.stdin
    try:
        holder.stdin.write(
            "begin; update users_user set first_name = 'x' where username = 'ada';\n"
        )
        holder.stdin.flush()
        time.sleep(1)
        with scene.fault("a row stays locked; 30 requests want it") as fault:
            waiting = [
                subprocess.Popen(
                    ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "90",
                     f"{scene.site.origin}/fault/locked/"],
                    stdout=subprocess.PIPE, text=True,
                )
                for _ in range(30)
            ]  # fmt: skip
            time.sleep(10)
            assert all(each.poll() is None for each in waiting)
            holder.kill()
            holder.wait()
            statuses = [each.communicate(timeout=60)[0] for each in waiting]
            fault.remark = f"those who waited: {statuses.count('200')} of 30 × 200"
    finally:
        holder.kill()
        holder.wait()
    assert statuses == ["200"] * 30
    assert fault.count("200", "201") == sum(fault.outcomes.values()), fault.outcomes
    note(fault)
