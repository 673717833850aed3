from django.apps import AppConfig
from django.core import checks


class ChatConfig(AppConfig):
    """Chat rooms for users who are logged in."""

    name = "{{ cookiecutter.project_slug }}.chat"

    def ready(self) -> None:
        from .checks import check_channel_layer

        checks.register(check_channel_layer)
