"""URL configuration.

https://docs.djangoproject.com/en/6.1/topics/http/urls/
"""

from django.conf import settings
from django.conf.urls.static import static
from django.contrib import admin
from django.urls import include, path

from serving import csp
from {{ cookiecutter.project_slug }}.users.login import log_in, reset_password

handler500 = "serving.unavailable.server_error"  # 503 while the database is down

urlpatterns = [
    path("", include("{{ cookiecutter.project_slug }}.welcome.urls")),
    path("accounts/login/", log_in, name="login"),
    path("accounts/password_reset/", reset_password, name="password_reset"),
    path("accounts/", include("django.contrib.auth.urls")),
    path("admin/", admin.site.urls),
{% if cookiecutter.__channels %}
    path("chat/", include("{{ cookiecutter.project_slug }}.chat.urls")),
{% endif %}
{% if cookiecutter.__sse %}
    path("", include("{{ cookiecutter.project_slug }}.notifications.urls")),
{% endif %}
    # In development only: in production the proxy serves uploads.
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),
]

if settings.DEBUG:
    urlpatterns += [path("csp-report/", csp.report)]
