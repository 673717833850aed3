# The template updates this file: see serving/README.md.
"""Responses that depend on a session are not cached, unless the view sets Cache-Control.

So a shared cache cannot give them to others, and the back button does not show them after a
log-out.
"""

from django.contrib.sessions import middleware
from django.http import HttpRequest, HttpResponse


class SessionMiddleware(middleware.SessionMiddleware):
    def process_response(
        self, request: HttpRequest, response: HttpResponse
    ) -> HttpResponse:
        response = super().process_response(request, response)
        session = getattr(request, "session", None)
        if session is not None and session.accessed and not session.is_empty():
            response.headers.setdefault("Cache-Control", "private, no-store")
        return response
