"""What is true of the process that answers, told by the process itself."""

{% if cookiecutter.__asgi %}
import sys
from importlib.metadata import version

from django.core.handlers.asgi import ASGIRequest
{% endif %}
from django.http import HttpRequest


def served_by(request: HttpRequest) -> tuple[str, str]:
    """Return the interface and the server through which `request` came in."""
{% if cookiecutter.__asgi %}
    if isinstance(request, ASGIRequest):
        return "ASGI", asgi_server()
{% endif %}
    return "WSGI", request.META.get("SERVER_SOFTWARE") or "unknown server"
{% if cookiecutter.__asgi %}


def asgi_server() -> str:
    """Return name and version of the ASGI server in this process. A scope does not tell."""
    for name in ("uvicorn", "granian", "hypercorn", "daphne"):
        if name in sys.modules:
            return f"{name}/{version(name)}"
    return "unknown server"
{% endif %}
