import django
{% if cookiecutter.__both %}
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
{% else %}
from django.db import connection
from django.http import HttpRequest, HttpResponse
{% endif %}
from django.shortcuts import render

from .server import served_by


def home(request: HttpRequest) -> HttpResponse:
    """Say what this page was served by. Make it the home page of your own."""
    interface, server = served_by(request)
    return render(
        request,
        "pages/home.html",
        {
            "interface": interface,
            "server": server,
            "django_version": django.get_version(),
            "database": connection.display_name,
        },
    )
{% if cookiecutter.__both %}


# Django has no transactions for async views: with ATOMIC_REQUESTS each has to say so.
@transaction.non_atomic_requests
async def async_status(request: HttpRequest) -> JsonResponse:
    """Say what /async/ is served by: the proxy sends that prefix to the ASGI server."""
    interface, server = served_by(request)
    return JsonResponse({"interface": interface, "server": server})
{% endif %}
