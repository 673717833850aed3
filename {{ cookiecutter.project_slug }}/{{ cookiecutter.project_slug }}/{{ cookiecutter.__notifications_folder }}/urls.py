from django.urls import path

from . import views

app_name = "notifications"
urlpatterns = [
    path("notifications/", views.notifications, name="list"),
{% if cookiecutter.__both %}
    # One of ASGI_PATHS in config/settings.py.
{% endif %}
    path("events/", views.events, name="events"),
]
