"""Logging in, but not by guessing: an address has so many attempts, whatever the account.

By address and not by account, or anybody could lock somebody else out. The cache counts, so
without a shared one each process does for itself.
"""

import ipaddress
import logging
from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.core.cache import cache
from django.core.exceptions import ValidationError

logger = logging.getLogger(__name__)

ATTEMPTS = 10
# Seconds.
WINDOW = 5 * 60


def attempts_of(address: str) -> str:
    """Return the key under which the attempts from an IP address are counted.

    A customer has a whole /64 of IPv6 addresses.
    """
    if ":" in address:
        address = str(ipaddress.ip_network(f"{address}/64", strict=False).network_address)
    return f"log-in:{address}"


def count(key: str, change: int) -> int:
    """Count attempts and return how many there are now; 0 if the cache is away.

    Who knows the password shall get in all the same.
    """
    try:
        cache.add(key, 0, timeout=WINDOW)
        return cache.incr(key, change)
    except Exception as error:  # each kind of cache has its own
        logger.warning("attempts to log in are not counted: %s", error)
        return 0


class LimitedForm(AuthenticationForm):
    """Looks at the password only if there were not too many attempts."""

    def clean(self) -> dict[str, Any]:
        key = attempts_of(self.request.META["REMOTE_ADDR"]) if self.request else "log-in:"
        # Counted before the password is looked at, or many at once would all get through.
        if count(key, 1) > ATTEMPTS:
            raise ValidationError(
                f"Too many attempts to log in. Try again in {WINDOW // 60} minutes.",
                code="too_many",
            )
        cleaned: dict[str, Any] = super().clean()
        if self.user_cache is not None:
            count(key, -1)
        return cleaned


class LimitedAdminForm(LimitedForm, AdminAuthenticationForm):
    """The same for the admin, which lets only staff in."""
