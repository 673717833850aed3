"""The rows of the fidelity table: what is measured, and what it is compared with.

A row is a test that measures one server. It is called for each server that the row is about,
for the emitted one and for Django as it ships, at the same time and with the same load.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.combinations import Answers, name_of
from tests.fidelity import client
from tests.fidelity.servers import NAMES, STOCK, Server, described, started
from tests.project import Project, uv
from tests.services import PostgreSQL, redis

ASGI: Answers = {"interface": "asgi", "realtime": "none", "database": "postgresql"}
BOTH: Answers = {"interface": "both", "realtime": "channels", "database": "postgresql"}
# How many rows are measured at the same time: most of them only wait.
AT_ONCE = 6


@dataclass(frozen=True)
class Outcome:
    """What one server did: counts, each with what it could be at most, of which more is
    better; promises that only the emitted one makes; and all of it as a short text."""

    text: str
    counts: dict[str, tuple[float, float]]
    kept: dict[str, bool] = field(default_factory=dict)


type Measure = Callable[[Server], Awaitable[Outcome]]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    case: str
    measure: Measure
    # The kinds of servers in a project of ASGI, and in one of both.
    asgi: tuple[str, ...]
    both: tuple[str, ...]
    # What the emitted server must reach of what Django's does.
    share: float
    # The counts in which Django as it ships is known to fail.
    stock_fails: tuple[str, ...]
    # Variables of its servers.
    variables: dict[str, str]
    # Packages that its servers need besides, and the folder in them that is imported first.
    package: str
    first: str
    # Whether it needs a server of its own, Redis, or nobody else at the same time.
    serve: bool
    redis: bool
    alone: bool

    def kinds(self, answers: Answers) -> tuple[str, ...]:
        return self.asgi if answers["interface"] == "asgi" else self.both

    def faults(self, ours: Outcome, stock: Outcome) -> list[str]:
        """Return in what the emitted server is worse than Django as it ships."""
        faults = [f"{promise}: no" for promise, kept in ours.kept.items() if not kept]
        for name, (count, most) in ours.counts.items():
            # Where Django as it ships fails, that is no measure.
            wanted = most if name in self.stock_fails else stock.counts[name][0]
            if count < self.share * wanted:
                faults.append(f"{name}: {count:g} of {wanted:g}")
        return faults

    def verdict(self, ours: Outcome, stock: Outcome) -> str:
        if self.faults(ours, stock):
            return "worse"
        more = any(count > stock.counts[name][0] for name, (count, _) in ours.counts.items())
        more |= any(not stock.kept[promise] for promise in ours.kept)
        return "better" if more else "same"


ROWS: dict[str, Row] = {}


def row(
    case: str,
    *,
    asgi: tuple[str, ...] = ("asgi",),
    both: tuple[str, ...] = ("asgi",),
    share: float = 1,
    stock_fails: tuple[str, ...] = (),
    variables: dict[str, str] | None = None,
    package: str = "",
    first: str = "",
    serve: bool = True,
    redis: bool = False,
    alone: bool = False,
) -> Callable[[Measure], Callable[..., None]]:
    """Make a test of what measures one server: the emitted one is not worse than Django's."""

    def decorate(measure: Measure) -> Callable[..., None]:
        name = measure.__name__  # type: ignore[attr-defined]
        ROWS[name] = one = Row(
            case, measure, asgi, both, share, stock_fails, variables or {}, package, first,
            serve, redis, alone,
        )  # fmt: skip

        def test(measured: "Measured", record_property: Callable[[str, object], None]) -> None:
            check(one, measured[name], record_property)

        places = [answers for answers in (ASGI, BOTH) if one.kinds(answers)]
        return pytest.mark.parametrize("measured", places, ids=name_of, indirect=True)(test)

    return decorate


type Measured = dict[str, dict[str, Outcome] | BaseException]


def check(
    one: Row,
    measured: dict[str, Outcome] | BaseException,
    record_property: Callable[[str, object], None],
) -> None:
    """Fail if the emitted servers are worse, or if the row does not work on Django's."""
    if isinstance(measured, BaseException):
        raise measured
    ours = [kind for kind in measured if kind in STOCK]
    pairs = {kind: (measured[kind], measured[STOCK[kind]]) for kind in ours}
    lines = [
        [one.case, NAMES[kind], mine.text, its.text, one.verdict(mine, its)]
        for kind, (mine, its) in pairs.items()
    ]
    record_property("fidelity", json.dumps(lines))
    for kind, (mine, its) in pairs.items():
        for name, (count, most) in its.counts.items():
            if name not in one.stock_fails:
                assert count >= most, f"{STOCK[kind]}, {name}: {count:g} of {most:g} ({its.text})"
        faults = one.faults(mine, its)
        assert not faults, f"{kind}: {'; '.join(faults)}\nhere:  {mine.text}\nstock: {its.text}"


def counts(outcome: Outcome) -> list[float]:
    return [count for count, _ in outcome.counts.values()]


@dataclass(frozen=True)
class Bench:
    """What all rows of one project share."""

    project: Project
    variables: dict[str, str]
    postgresql: PostgreSQL
    folder: Path
    installing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def measure(self, name: str) -> dict[str, Outcome]:
        """Measure a row on all its servers at once; alone, on one after the other."""
        one = ROWS[name]
        ours = one.kinds(self.project.answers)
        kinds = list(dict.fromkeys([*ours, *(STOCK[kind] for kind in ours)]))
        if not one.alone:
            outcomes = await asyncio.gather(*(self.measure_one(name, kind) for kind in kinds))
            return dict(zip(kinds, outcomes, strict=True))
        measured: dict[str, Outcome] = {}
        for turn in range(2 if one.share < 1 else 1):
            for kind in kinds:
                outcome = await self.measure_one(name, kind, turn)
                # Whatever else this machine does can only make a rate lower.
                measured[kind] = max(measured.get(kind, outcome), outcome, key=counts)
        return measured

    async def measure_one(self, name: str, kind: str, turn: int = 0) -> Outcome:
        one = ROWS[name]
        variables = self.variables | one.variables
        if one.package:
            folder = await self.installed(one.package)
            paths = [str(folder / one.first)] if one.first else []
            variables["PYTHONPATH"] = ":".join([*paths, str(folder), variables["PYTHONPATH"]])
        folder = self.folder / f"{name}-{kind.replace(' ', '-')}-{turn}"
        server = described(kind, name, self.project, variables, folder, self.postgresql)
        async with AsyncExitStack() as stack:
            if one.redis:
                server.variables["REDIS_URL"] = stack.enter_context(redis(folder))
            if one.serve:
                await stack.enter_async_context(started(server))
            return await one.measure(server)

    async def installed(self, package: str) -> Path:
        """Install a package beside the project, once, and return where."""
        folder = self.folder / package
        async with self.installing:
            if not folder.exists():
                words = [uv(), "pip", "install", "--quiet", "--target", str(folder), package]
                await asyncio.to_thread(self.project.must, *words)
        return folder

    async def measure_all(self, names: list[str]) -> dict[str, Any]:
        """Measure rows, many at the same time; at last those that have to be alone."""
        measured: dict[str, Any] = {}
        places = asyncio.Semaphore(AT_ONCE)

        async def take(name: str) -> None:
            async with places:
                try:
                    measured[name] = await self.measure(name)
                except Exception as error:
                    measured[name] = error

        async with await asyncio.start_server(client.another_site, "127.0.0.1", 0) as site:
            port = site.sockets[0].getsockname()[1]
            self.variables["FIDELITY_OTHER_SITE"] = str(port)
            await asyncio.gather(*(take(name) for name in names if not ROWS[name].alone))
            for name in names:
                if ROWS[name].alone:
                    await take(name)
        return measured
