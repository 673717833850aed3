"""The log-in and the password reset, with limits against guessing and floods of emails.

serving/attempts.py counts the attempts.
"""

from functools import partial
from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm, PasswordResetForm
from django.contrib.auth.views import LoginView, PasswordResetView
from django.core.exceptions import ValidationError

from serving.attempts import Attempts, address_of, in_background

# Limits for WINDOW seconds.
WINDOW = 5 * 60
ATTEMPTS = 10  # wrong passwords for one account from one address
ADDRESS_ATTEMPTS = 100  # wrong passwords from one address, for all accounts
MAILS = 3  # password reset emails for one account

LOG_IN = Attempts("log-in", WINDOW, ATTEMPTS, ADDRESS_ATTEMPTS)
RESET = Attempts("reset", WINDOW, MAILS, ADDRESS_ATTEMPTS)


class LimitedForm(AuthenticationForm):
    """Refuses to check a password after too many attempts."""

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
    """The same for the admin, which admits only staff."""


class ResetForm(PasswordResetForm):
    """Gives the same response, after the same time, whether the account exists or not."""

    def save(self, *args: Any, **options: Any) -> None:
        address = address_of(options.get("request"))
        if RESET.may_try(self.cleaned_data["email"], "", address):
            in_background(partial(super().save, *args, **options))


log_in = LoginView.as_view(authentication_form=LimitedForm)
reset_password = PasswordResetView.as_view(form_class=ResetForm)
