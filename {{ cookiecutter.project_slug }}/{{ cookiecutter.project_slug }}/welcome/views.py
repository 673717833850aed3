"""The welcome page, which shows how it was served.

README.md says how to delete this folder.
"""

{% if cookiecutter.__asgi %}
import sys
from importlib.metadata import version

{% endif %}
import django
{% if cookiecutter.__asgi %}
from django.core.handlers.asgi import ASGIRequest
{% endif %}
{% if cookiecutter.__both %}
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
{% else %}
from django.db import connection
from django.http import HttpRequest, HttpResponse
{% endif %}
from django.shortcuts import render


def home(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    interface, server = served_by(request)
    return render(
        request,
        "welcome/home.html",
        {
            "interface": interface,
            "server": server,
            "django_version": django.get_version(),
            "database": connection.display_name,
        },
    )


def served_by(request: HttpRequest) -> tuple[str, str]:
    """Return the interface and the server that received `request`."""
{% if cookiecutter.__asgi %}
    if isinstance(request, ASGIRequest):
        return "ASGI", asgi_server()
{% endif %}
    return "WSGI", request.META.get("SERVER_SOFTWARE") or "unknown server"
{% if cookiecutter.__asgi %}


def asgi_server() -> str:
    """Return name and version of the ASGI server, which is not in the scope."""
    for name in ("uvicorn", "granian", "hypercorn", "daphne"):
        if name in sys.modules:
            return f"{name}/{version(name)}"
    return "unknown server"
{% endif %}
{% if cookiecutter.__both %}


# Django has no transactions in async views. With ATOMIC_REQUESTS they need this decorator.
@transaction.non_atomic_requests
async def async_status(request: HttpRequest) -> JsonResponse:
    """Show what serves /async/: the proxy sends that prefix to the ASGI server."""
    interface, server = served_by(request)
    return JsonResponse({"interface": interface, "server": server})
{% endif %}
