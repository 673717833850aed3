# The template updates this file: see serving/README.md.
"""The 503 page for an outage, which replaces the Internal Server Error."""

import sys

import structlog
from django.http import HttpRequest, HttpResponse
from django.template import loader
from django.views import defaults

from serving.outages import outage_of

# Seconds after which clients should try again.
RETRY_AFTER = 10


def server_error(request: HttpRequest) -> HttpResponse:
    """Return the error page for an exception; handler500 in config/urls.py.

    It uses neither session nor CSRF token, because both may need the service that is away.
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
