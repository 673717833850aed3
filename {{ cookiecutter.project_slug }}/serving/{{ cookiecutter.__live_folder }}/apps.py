# The template updates this file: see serving/README.md.

from django.apps import AppConfig


class LiveConfig(AppConfig):
    """Delivers new rows of the database to open pages, over WebSockets or event streams."""

    name = "serving.live"
    label = "serving_live"

    def ready(self) -> None:
        from .sessions import connect_signals

        connect_signals()
