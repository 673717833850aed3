# The template updates this file: see serving/README.md.
"""Combine the queries of many connections.

After a restart, all browsers reconnect at the same time. Single queries would wait for a
thread one after the other. A batch needs one or two queries for all of them.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context

{% if cookiecutter.__channels %}
from channels.db import database_sync_to_async

{% endif %}
{% if cookiecutter.__sse %}
from serving.request_thread import run_alone
{% endif %}
from serving.threads import Overloaded

# Questions in one batch. In a larger batch, the first would wait long for their answers.
MAX_BATCH = 100


class Batch[Question, Answer]:
    """An async function of one question, made from a sync function of many questions.

    The first question is asked at once. Those that come meanwhile are then asked in one
    batch. If a batch fails, it fails for all its questions.
    """

    def __init__(self, ask: Callable[[list[Question]], list[Answer]]) -> None:
        """`ask` returns an answer for each question, in the same order."""
        self.ask = ask
        self.waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self.work: asyncio.Task[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, question: Question) -> Answer:
        """Return the answer to a question. Raises what `ask` raises."""
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            # Tests use several loops. A task in a closed loop never finishes.
            self.loop, self.waiting, self.work = loop, [], None
        answer: asyncio.Future[Answer] = loop.create_future()
        self.waiting.append((question, answer))
        if not self.work:
            # An empty context, because the task works for many callers.
            self.work = loop.create_task(self.ask_all(), context=Context())
        return await answer

    async def ask_all(self) -> None:
        """Ask batches until no question waits."""
        try:
            while self.waiting:
                batch, self.waiting = self.waiting[:MAX_BATCH], self.waiting[MAX_BATCH:]
                # Skip questions whose client has disconnected.
                batch = [one for one in batch if not one[1].done()]
                if batch:
                    await self.ask_some(batch)
        finally:
            self.work = None

    async def ask_some(self, batch: list[tuple[Question, asyncio.Future[Answer]]]) -> None:
        """Ask a batch of questions and hand out the answers."""
        try:
            answers = await in_thread(self.ask, [question for question, _ in batch])
        except (Exception, Overloaded) as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for (_, answer), found in zip(batch, answers, strict=True):
                if not answer.done():
                    answer.set_result(found)


async def in_thread[T, R](call: Callable[[T], R], argument: T) -> R:
    """Call a function in a thread that does not belong to a connection."""
{% if cookiecutter.__channels %}
    return await database_sync_to_async(call)(argument)
{% else %}
    return await asyncio.wrap_future(run_alone(call, argument))
{% endif %}
