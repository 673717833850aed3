{% if cookiecutter.__postgresql and cookiecutter.__asgi %}
import atexit

{% endif %}
from django.apps import AppConfig
{% if cookiecutter.__postgresql and cookiecutter.__asgi %}
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper
{% endif %}


class PagesConfig(AppConfig):
    """The home page, the look that all pages share, and the health probes."""

    name = "{{ cookiecutter.project_slug }}.pages"
{% if cookiecutter.__postgresql and cookiecutter.__asgi %}

    def ready(self) -> None:
        # A pool that is still open holds up the end of its process for 20 seconds.
        atexit.register(close_pools)


def close_pools() -> None:
    """Close the connections of all pools; SQLite, which has none, may stand in."""
    for connection in connections.all():
        if isinstance(connection, DatabaseWrapper):
            connection.close()
            connection.close_pool()
{% endif %}
