# The template updates this file: see serving/README.md.
"""The page that says that something is away, in the place of an Internal Server Error."""

import sys

import structlog
from django.http import HttpRequest, HttpResponse
from django.template import loader
from django.views import defaults

from serving.outages import outage_of

# Seconds after which it is worth while to ask again.
RETRY_AFTER = 10


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer for a view that raised; this is handler500 of config/urls.py.

    No session and no CSRF token is looked at: they may be in what is away.
    """
    error = sys.exc_info()[1]
    outage = outage_of(error)
    if not error or not outage:
        return defaults.server_error(request)
    outage.failed(error)
    # For the access line.
    structlog.contextvars.bind_contextvars(away=outage.name)
    page = loader.get_template("500.html").render({"away": outage.name})
    return HttpResponse(page, status=503, headers={"Retry-After": str(RETRY_AFTER)})
