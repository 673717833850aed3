"""The settings of the project, with the views of these tests and what a row wants to add."""

import os

from config.settings import *  # noqa: F403
from config.settings import DATABASES, MIDDLEWARE

ROOT_URLCONF = "fidelity_urls"

if os.environ.get("FIDELITY_STOCK"):
    # Django as it ships leaks each connection that is to be kept.
    DATABASES["default"]["CONN_MAX_AGE"] = 0

LOCALE = "django.middleware.locale.LocaleMiddleware"
added = os.environ.get("FIDELITY_MIDDLEWARE", "").split()
if LOCALE in added:
    # Where its documentation puts it.
    added.remove(LOCALE)
    MIDDLEWARE.insert(MIDDLEWARE.index("serving.no_store.SessionMiddleware") + 1, LOCALE)
MIDDLEWARE += added

if os.environ.get("FIDELITY_TRACER") == "sentry":
    import fidelity_sentry  # noqa: F401
if os.environ.get("FIDELITY_TRACER") == "datadog":
    import fidelity_datadog  # noqa: F401
