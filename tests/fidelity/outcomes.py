"""What the measures have in common: loads, and outcomes of them."""

import asyncio
import time
from collections.abc import Awaitable

from tests.fidelity import client
from tests.fidelity.client import Reply, count, told
from tests.fidelity.rows import Outcome
from tests.fidelity.servers import Server


async def answered(asked: Awaitable[list[Reply]], body: str = "") -> Outcome:
    """Return how many were answered with 200, and with `body` in the answer."""
    start = time.monotonic()
    replies = await asked
    seconds = max(reply.at for reply in replies) - start
    counts = {"answered": (count(replies), len(replies))}
    text = f"{told(replies)} in {seconds:.1f} s"
    if body:
        right = count(replies, body=body)
        counts["right"] = (right, len(replies))
        text = f"{right} of {len(replies)} right; {text}"
    return Outcome(text, counts)


async def pages_while(server: Server, holding: asyncio.Task[list[Reply]] | None = None) -> Outcome:
    """Return how many pages are answered, before what holds on is over."""
    start = time.monotonic()
    pages = await server.pages()
    good = 0 if holding and holding.done() else count(pages)
    seconds = max(page.at for page in pages) - start
    return Outcome(
        f"pages meanwhile: {told(pages)} in {seconds:.1f} s", {"pages": (good, len(pages))}
    )


def together(*outcomes: Outcome) -> Outcome:
    counts = {name: value for one in outcomes for name, value in one.counts.items()}
    kept = {name: value for one in outcomes for name, value in one.kept.items()}
    return Outcome("; ".join(one.text for one in outcomes), counts, kept)


async def begun(asked: Awaitable[list[Reply]], seconds: float = 1.5) -> asyncio.Task[list[Reply]]:
    """Begin with requests that take long; they are under way when this returns."""
    task = asyncio.ensure_future(asked)
    await asyncio.sleep(seconds)
    assert isinstance(task, asyncio.Task)
    return task


async def traced(server: Server) -> None:
    """Ask for what a tracer has to see, at once, and give it the time to tell."""
    names = [f"/f/traced-{kind}/{name}/" for kind in ("view", "page") for name in
             ("1", "2", f"{kind}-fail")]  # fmt: skip
    await client.get_all(server.port, names)
    await asyncio.sleep(3)
