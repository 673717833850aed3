from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """Notifications to users, and the streams that deliver them to open pages."""

    name = "{{ cookiecutter.project_slug }}.notifications"
