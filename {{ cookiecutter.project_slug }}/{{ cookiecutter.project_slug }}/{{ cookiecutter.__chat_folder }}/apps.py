from django.apps import AppConfig
from django.core import checks


class ChatConfig(AppConfig):
    """Rooms in which people who are logged in talk to each other."""

    name = "{{ cookiecutter.project_slug }}.chat"

    def ready(self) -> None:
        from serving.live.sessions import connect_signals

        from .checks import check_channel_layer

        checks.register(check_channel_layer)
        connect_signals()
