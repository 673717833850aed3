"""URL configuration.

https://docs.djangoproject.com/en/6.1/topics/http/urls/
"""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("{{ cookiecutter.project_slug }}.pages.urls")),
    path("accounts/", include("django.contrib.auth.urls")),
    path("admin/", admin.site.urls),
{% if cookiecutter.__channels %}
    path("chat/", include("{{ cookiecutter.project_slug }}.chat.urls")),
{% endif %}
{% if cookiecutter.__sse %}
    path("", include("{{ cookiecutter.project_slug }}.notifications.urls")),
{% endif %}
]
