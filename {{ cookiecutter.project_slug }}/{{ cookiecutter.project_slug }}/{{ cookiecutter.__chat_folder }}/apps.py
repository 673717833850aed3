from django.apps import AppConfig
from django.core import checks


class ChatConfig(AppConfig):
    """Rooms in which people who are logged in talk to each other."""

    name = "{{ cookiecutter.project_slug }}.chat"

    def ready(self) -> None:
        from .checks import check_channel_layer

        checks.register(check_channel_layer)
