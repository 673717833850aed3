from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """What the site tells its people, and the streams that carry it to their open pages."""

    name = "{{ cookiecutter.project_slug }}.notifications"
