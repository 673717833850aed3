# The template updates this file: see serving/README.md.
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
from django.views.decorators.http import require_POST

logger = logging.getLogger(__name__)

# What has no address: its name in a report, and in SECURE_CSP.
SOURCES = {
    "data": '"data:"',
    "blob": '"blob:"',
    "eval": "CSP.UNSAFE_EVAL",
    "wasm-eval": "CSP.WASM_UNSAFE_EVAL",
}
# Of what a page asks for itself; extensions of the browser have others.
SCHEMES = ("http", "https", "ws", "wss")


@csrf_exempt
@require_POST
def report(request: HttpRequest) -> HttpResponse:
    """Log the report of a browser, with what would allow it; 400 for what is no report."""
    try:
        found = json.loads(request.body)["csp-report"]
        blocked, page = str(found["blocked-uri"]), str(found["document-uri"])
        hint = advice(str(found["effective-directive"]), blocked)
    except (ValueError, KeyError, TypeError):
        return HttpResponse("This is no report of a content security policy.", status=400)
    logger.warning("The content security policy refused %s on %s%s", blocked, page, hint)
    return HttpResponse(status=204)


def advice(directive: str, blocked: str) -> str:
    """Say how `directive` would allow the address or the kind of content `blocked`.

    Nothing where it could not, as for an extension of the browser. A nonce is for elements:
    no attribute, such as style and onclick, can have one.
    """
    if blocked == "inline" and directive.endswith("-attr"):
        return ": move the attribute to a file, as a style of a class or as a listener."
    if blocked == "inline":
        return ': give the element nonce="{% raw %}{{ csp_nonce }}{% endraw %}", or move its content to a file.'
    parts = urlsplit(blocked)
    if blocked not in SOURCES and not (parts.scheme in SCHEMES and parts.netloc):
        return "."
    source = SOURCES.get(blocked, f'"{parts.scheme}://{parts.netloc}"')
    if directive not in settings.SECURE_CSP:
        directive = directive.removesuffix("-elem").removesuffix("-attr")
    if directive in settings.SECURE_CSP:
        return f': add {source} to "{directive}" of SECURE_CSP in config/settings.py.'
    return f': add "{directive}": [CSP.SELF, {source}] to SECURE_CSP in config/settings.py.'
