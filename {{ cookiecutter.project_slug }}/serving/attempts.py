# The template updates this file: see serving/README.md.
"""How often somebody may try: to log in, to have a mail sent.

The cache counts: without a shared one each process does for itself. While it is away nobody
does, so that who knows the password gets in all the same.
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
from django.db import close_old_connections, connection
from django.http import HttpRequest

from serving.outages import Outage

logger = structlog.get_logger(__name__)
counter = Outage("counter of attempts")

BACKGROUND = ThreadPoolExecutor(2, "background")


def address_of(request: HttpRequest | None) -> str:
    """Return for whom attempts are counted: of IPv6 a customer has a whole /64."""
    address = str(request.META["REMOTE_ADDR"]) if request else ""
    return str(IPv6Interface(f"{address}/64").network) if ":" in address else address


@dataclass(frozen=True)
class Attempts:
    """Attempts in `seconds`: at an account from one place, or anybody could lock out people
    elsewhere, and of an address at them all: a high number, as an office may have one."""

    kind: str
    seconds: int
    of_account: int
    of_address: int

    def may_try(self, account: str, place: str, address: str) -> bool:
        """Count an attempt, and return whether it may be made. Nothing is looked at before.
        `place` is the address, or empty for those from wherever."""
        try:
            allowed = self.count(1, account, place) <= self.of_account and (
                self.count(1, address) <= self.of_address
                # Guesses of others hold up nobody who got in there before.
                or bool(cache.get(self.key("known", account, place)))
            )
        except Exception as error:  # each kind of cache has its own
            counter.failed(error)
            return True
        counter.works()
        if not allowed:
            structlog.contextvars.bind_contextvars(refused=f"too many: {self.kind}")
        return allowed

    def succeeded(self, account: str, address: str) -> None:
        """Take an attempt back, and know the account at that address for a month."""
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
    """Call something without waiting for it: how long it takes would tell what it did."""

    def run() -> None:
        try:
            call()
        except Exception:
            logger.exception("not done in the background")
        finally:
            close_old_connections()

    if connection.in_atomic_block:  # Another thread would not see what that did.
        call()
    else:  # With the language of the request, and its id in the log.
        BACKGROUND.submit(copy_context().run, run)
