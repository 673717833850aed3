# Appended to config/urls.py by equip().
from debug_toolbar.toolbar import debug_toolbar_urls
from wagtail import urls as wagtail_urls
from wagtail.admin import urls as wagtailadmin_urls
from wagtail.documents import urls as wagtaildocs_urls

urlpatterns += [
    path("silk/", include("silk.urls", namespace="silk")),
    path("cms/", include(wagtailadmin_urls)),
    path("documents/", include(wagtaildocs_urls)),
    path("articles/", include(wagtail_urls)),
    # Twice: a proxy in front of both servers sends the second to the ASGI server.
    path("", include("extras.urls")),
    path("async/", include("extras.urls")),
    *debug_toolbar_urls(),
]
