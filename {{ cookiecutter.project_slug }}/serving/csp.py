"""What the content security policy refused, for the log of the development server.

Browsers send a report to `report-uri` of SECURE_CSP, which only development has.
https://docs.djangoproject.com/en/6.1/ref/csp/
"""

import json
import logging
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

logger = logging.getLogger(__name__)

# What has no address: its name in a report, and in SECURE_CSP.
SOURCES = {"data": '"data:"', "blob": '"blob:"', "eval": "CSP.UNSAFE_EVAL"}


@csrf_exempt
def report(request: HttpRequest) -> HttpResponse:
    """Log the report of a browser, with what would allow it."""
    found = json.loads(request.body)["csp-report"]
    logger.warning(
        "The content security policy refused %s on %s: %s",
        found["blocked-uri"],
        found["document-uri"],
        advice(found["effective-directive"], found["blocked-uri"]),
    )
    return HttpResponse(status=204)


def advice(directive: str, blocked: str) -> str:
    """Say how `directive` would allow the address or the kind of content `blocked`."""
    if blocked == "inline":
        return 'give the element nonce="{% raw %}{{ csp_nonce }}{% endraw %}", or move its content to a file.'
    parts = urlsplit(blocked)
    source = SOURCES.get(blocked, f'"{parts.scheme}://{parts.netloc}"')
    if directive not in settings.SECURE_CSP:
        directive = directive.removesuffix("-elem").removesuffix("-attr")
    if directive in settings.SECURE_CSP:
        return f'add {source} to "{directive}" of SECURE_CSP in config/settings.py.'
    return f'add "{directive}": [CSP.SELF, {source}] to SECURE_CSP in config/settings.py.'
