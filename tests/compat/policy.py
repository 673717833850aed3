"""Becomes config/policy.py: the recipe of docs/compat.md.

A wider content security policy for pages of packages; the others keep SECURE_CSP.
"""

from inspect import iscoroutinefunction

from django.conf import settings
from django.utils.csp import CSP
from django.utils.decorators import sync_and_async_middleware
from django.views.decorators.csp import csp_override

PREFIXES = ("/cms/", "/silk/", "/graphql/")
POLICY = settings.SECURE_CSP | {
    "script-src": [CSP.SELF, CSP.UNSAFE_INLINE, CSP.UNSAFE_EVAL, "https://unpkg.com"],
    "style-src": [CSP.SELF, CSP.UNSAFE_INLINE, "https://unpkg.com"],
    "img-src": [CSP.SELF, "data:", "blob:"],
    "connect-src": [CSP.SELF, "https://releases.wagtail.org"],
    "frame-ancestors": [CSP.SELF],
}


@sync_and_async_middleware
def wider_policy(get_response):
    """Stands in MIDDLEWARE after ContentSecurityPolicyMiddleware."""
    wider = csp_override(POLICY)(get_response)

    def answer(request):
        return (wider if request.path_info.startswith(PREFIXES) else get_response)(request)

    async def answer_async(request):
        return await answer(request)

    return answer_async if iscoroutinefunction(get_response) else answer
