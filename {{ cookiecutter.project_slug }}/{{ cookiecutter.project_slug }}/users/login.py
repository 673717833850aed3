"""Log-in with a limit of attempts for each address, against guessing of passwords.

Not for each account: otherwise anybody could lock another user out. The cache counts, so
without a shared cache each process counts separately.
"""

import ipaddress
from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.core.cache import cache
from django.core.exceptions import ValidationError

from serving.outages import Outage

counter = Outage("counter of log-ins")

ATTEMPTS = 10
# Seconds.
WINDOW = 5 * 60


def attempts_of(address: str) -> str:
    """Return the key under which the attempts from an IP address are counted.

    For IPv6 it is the /64 network, because a customer has all its addresses.
    """
    if ":" in address:
        address = str(ipaddress.ip_network(f"{address}/64", strict=False).network_address)
    return f"log-in:{address}"


def count(key: str, change: int) -> int:
    """Count attempts and return how many there are now; 0 if the cache is away.

    Without the cache, log-in must still work.
    """
    try:
        cache.add(key, 0, timeout=WINDOW)
        return cache.incr(key, change)
    except Exception as error:  # each kind of cache has its own
        counter.failed(error)
        return 0


class LimitedForm(AuthenticationForm):
    """Checks the password only if there were not too many attempts."""

    def clean(self) -> dict[str, Any]:
        key = attempts_of(self.request.META["REMOTE_ADDR"]) if self.request else "log-in:"
        # Counted before the check of the password: otherwise many at once would pass.
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
