# The template updates this file: see serving/README.md.
"""Limits of attempts, for example to log in or to request an email.

The counts are in the cache. Without a shared cache, each process counts on its own. If the
cache is unavailable, nothing is limited, so that users can still log in.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from ipaddress import IPv6Interface

import structlog
from django.core.cache import cache
from django.db import connection, connections
from django.http import HttpRequest

from serving.outages import Outage

logger = structlog.get_logger(__name__)
counter = Outage("counter of attempts")

BACKGROUND = ThreadPoolExecutor(2, "background")


def network_of(address: str) -> str:
    """Return what to count for an address: of IPv6 the /64, because a customer has one."""
    return str(IPv6Interface(f"{address}/64").network) if ":" in address else address


def address_of(request: HttpRequest | None) -> str:
    """Return the client address of a request, for counting."""
    return network_of(str(request.META["REMOTE_ADDR"]) if request else "")


@dataclass(frozen=True)
class Attempts:
    """The limits of attempts in `seconds`.

    `of_account` is for one account from one address. If it were for the account alone,
    anybody could lock its user out. `of_address` is for one address and all accounts. It is
    high, because an office may share one address.
    """

    kind: str
    seconds: int
    of_account: int
    of_address: int

    def may_try(self, account: str, source: str, address: str) -> bool:
        """Count an attempt, and return whether it is allowed. Call it before other checks.

        `source` is the client address, or "" to count the account from all addresses.
        """
        try:
            allowed = self.count(1, account, source) <= self.of_account and (
                self.count(1, address) <= self.of_address
                # Failed attempts of others do not block a user who logged in here before.
                or bool(cache.get(self.key("known", account, source)))
            )
        except Exception as error:  # each cache backend has its own exceptions
            counter.failed(error)
            return True
        counter.works()
        if not allowed:
            structlog.contextvars.bind_contextvars(refused=f"too many: {self.kind}")
        return allowed

    def succeeded(self, account: str, address: str) -> None:
        """Uncount an attempt, and remember the account at this address for a month."""
        with suppress(Exception):
            self.count(-1, account, address)
            self.count(-1, address)
            cache.set(self.key("known", account, address), 1, 30 * 24 * 60 * 60)

    def count(self, change: int, *parts: str) -> int:
        cache.add(self.key(*parts), 0, timeout=self.seconds)
        return cache.incr(self.key(*parts), change)

    def key(self, *parts: str) -> str:
        typed = repr([part.casefold() for part in parts])
        return f"{self.kind}:{hashlib.sha256(typed.encode()).hexdigest()}"


def in_background(call: Callable[[], object]) -> None:
    """Run `call` without waiting: the response time must not reveal what it does."""

    def run() -> None:
        try:
            call()
        except Exception:
            logger.exception("background call failed")
        finally:
            # The next call may come much later.
            connections.close_all()

    if connection.in_atomic_block:  # Another thread cannot see this transaction.
        call()
    else:  # The context has the language of the request, and its id for the log.
        BACKGROUND.submit(copy_context().run, run)
