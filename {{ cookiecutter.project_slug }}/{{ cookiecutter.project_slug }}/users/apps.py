from django.apps import AppConfig


class UsersConfig(AppConfig):
    """Who may log in."""

    name = "{{ cookiecutter.project_slug }}.users"
