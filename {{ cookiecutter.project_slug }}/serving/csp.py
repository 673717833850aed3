# The template updates this file: see serving/README.md.
"""Log in development what the content security policy blocked.

Browsers send reports to `report-uri` of SECURE_CSP, which is set in development only.
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

# Sources without a URL: the name in a report, and in SECURE_CSP.
SOURCES = {
    "data": '"data:"',
    "blob": '"blob:"',
    "eval": "CSP.UNSAFE_EVAL",
    "wasm-eval": "CSP.WASM_UNSAFE_EVAL",
}
# The requests of a page. Those of browser extensions have other schemes.
SCHEMES = ("http", "https", "ws", "wss")


@csrf_exempt
@require_POST
def report(request: HttpRequest) -> HttpResponse:
    """Log the report of a browser, and what to add to allow it; 400 if it is not valid."""
    try:
        found = json.loads(request.body)["csp-report"]
        blocked, page = str(found["blocked-uri"]), str(found["document-uri"])
        hint = advice(str(found["effective-directive"]), blocked)
    except (ValueError, KeyError, TypeError):
        return HttpResponse("This is not a content security policy report.", status=400)
    logger.warning("The content security policy refused %s on %s%s", blocked, page, hint)
    return HttpResponse(status=204)


def advice(directive: str, blocked: str) -> str:
    """Return how to allow `blocked`, a URL or a kind of content, in `directive`.

    It is "." if that is not possible, as for a browser extension. A nonce works for
    elements only, not for attributes such as style and onclick.
    """
    if blocked == "inline" and directive.endswith("-attr"):
        return ": move the attribute to a file, as a CSS class or as an event listener."
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
