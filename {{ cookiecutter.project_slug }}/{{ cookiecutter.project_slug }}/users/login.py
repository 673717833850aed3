"""Logging in, but not by guessing; new passwords, but no flood of mails.

serving/attempts.py says how they are counted.
"""

from functools import partial
from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm, PasswordResetForm
from django.contrib.auth.views import LoginView, PasswordResetView
from django.core.exceptions import ValidationError

from serving.attempts import Attempts, address_of, in_background

WINDOW = 5 * 60  # seconds, in which there may be so many
ATTEMPTS = 10  # wrong passwords for an account from one address
ADDRESS_ATTEMPTS = 100  # wrong passwords from one address, whatever the account
MAILS = 3  # to somebody who has forgotten the password

LOG_IN = Attempts("log-in", WINDOW, ATTEMPTS, ADDRESS_ATTEMPTS)
RESET = Attempts("reset", WINDOW, MAILS, ADDRESS_ATTEMPTS)


class LimitedForm(AuthenticationForm):
    """Checks the password only if there were not too many attempts."""

    def clean(self) -> dict[str, Any]:
        account, address = self.cleaned_data.get("username", ""), address_of(self.request)
        if not LOG_IN.may_try(account, address, address):
            raise ValidationError(
                f"Too many attempts to log in. Try again in {WINDOW // 60} minutes.",
                code="too_many",
            )
        cleaned: dict[str, Any] = super().clean()
        if self.user_cache is not None:
            LOG_IN.succeeded(account, address)
        return cleaned


class LimitedAdminForm(LimitedForm, AdminAuthenticationForm):
    """The same for the admin, which lets only staff in."""


class ResetForm(PasswordResetForm):
    """Answers the same, and as soon, whether there is somebody to send a mail to or not."""

    def save(self, *args: Any, **options: Any) -> None:
        address = address_of(options.get("request"))
        if RESET.may_try(self.cleaned_data["email"], "", address):
            in_background(partial(super().save, *args, **options))


log_in = LoginView.as_view(authentication_form=LimitedForm)
reset_password = PasswordResetView.as_view(form_class=ResetForm)
