from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
{% if cookiecutter.__both %}
    path("async/status/", views.async_status, name="async-status"),
{% endif %}
]
