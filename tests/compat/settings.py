# Packages of the first weeks: appended to config/settings.py by equip(), each as its
# documentation says. The lines for allauth (docs/accounts.md) and for
# django-tasks-db (the project's README) stand above.
import os

INSTALLED_APPS += [
    "extras",
    "rest_framework",
    "ninja",
    "debug_toolbar",
    "corsheaders",
    "django_htmx",
    "django_filters",
    "import_export",
    "simple_history",
    "guardian",
    "axes",
    "silk",
    "anymail",
    "strawberry.django",
    "wagtail.contrib.forms",
    "wagtail.contrib.redirects",
    "wagtail.embeds",
    "wagtail.sites",
    "wagtail.users",
    "wagtail.snippets",
    "wagtail.documents",
    "wagtail.images",
    "wagtail.search",
    "wagtail.admin",
    "wagtail",
    "modelcluster",
    "taggit",
]

# As early as possible: the debug toolbar, then silk. CORS before CommonMiddleware.
MIDDLEWARE[:0] = [
    "debug_toolbar.middleware.DebugToolbarMiddleware",
    "silk.middleware.SilkyMiddleware",
]
MIDDLEWARE.insert(
    MIDDLEWARE.index("django.middleware.common.CommonMiddleware"),
    "corsheaders.middleware.CorsMiddleware",
)
# The recipe of docs/compat.md.
MIDDLEWARE.insert(
    MIDDLEWARE.index("django.middleware.csp.ContentSecurityPolicyMiddleware") + 1,
    "config.policy.wider_policy",
)
MIDDLEWARE += [
    "django_htmx.middleware.HtmxMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "wagtail.contrib.redirects.middleware.RedirectMiddleware",
    "axes.middleware.AxesMiddleware",  # last
]

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # first
    *AUTHENTICATION_BACKENDS,
    "guardian.backends.ObjectPermissionBackend",
]

# django-anymail: its own backend for a terminal, where there is no provider.
MAILERS = {"default": {"BACKEND": "anymail.backends.console.EmailBackend"}}

# django-cors-headers
CORS_ALLOWED_ORIGINS = ["https://shop.example"]

# django-debug-toolbar
INTERNAL_IPS = ["127.0.0.1"]

# djangorestframework
REST_FRAMEWORK = {
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.DjangoModelPermissionsOrAnonReadOnly"
    ]
}

# django-axes
AXES_FAILURE_LIMIT = 3

# django-redis
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ["REDIS_URL"],
        "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"},
    }
}

# celery
CELERY_BROKER_URL = os.environ["REDIS_URL"]
CELERY_RESULT_BACKEND = os.environ["REDIS_URL"]

# wagtail
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    INSTALLED_APPS += ["django.contrib.postgres"]
WAGTAIL_SITE_NAME = "Corner Shop"
WAGTAILADMIN_BASE_URL = "http://localhost"
WAGTAILDOCS_EXTENSIONS = ["pdf"]
DATA_UPLOAD_MAX_NUMBER_FIELDS = 10_000
MEDIA_ROOT = BASE_DIR / "media"
MEDIA_URL = "/media/"
