from django.apps import AppConfig


class PagesConfig(AppConfig):
    """The home page, the look that all pages share, and the health probes."""

    name = "{{ cookiecutter.project_slug }}.pages"
