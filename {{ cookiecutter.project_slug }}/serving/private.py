# The template updates this file: see serving/README.md.
"""What was made for somebody is kept by nobody: no shared cache, and no back button."""

from django.contrib.sessions import middleware
from django.http import HttpRequest, HttpResponse


class SessionMiddleware(middleware.SessionMiddleware):
    """Has a page with a session not kept, unless its view has set Cache-Control."""

    def process_response(
        self, request: HttpRequest, response: HttpResponse
    ) -> HttpResponse:
        answer = super().process_response(request, response)
        session = getattr(request, "session", None)
        if session is not None and session.accessed and not session.is_empty():
            answer.headers.setdefault("Cache-Control", "private, no-store")
        return answer
