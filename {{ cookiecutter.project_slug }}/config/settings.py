"""
Django settings for {{ cookiecutter.project_name }}.

config/environment.py reads the values that differ between machines.
https://docs.djangoproject.com/en/6.1/ref/settings/
"""

from pathlib import Path
from typing import Any

from django.utils.csp import CSP

from config import environment
{% if cookiecutter.__live %}
from config.database import DATABASE, DATABASE_DIGEST
{% else %}
from config.database import DATABASE
{% endif %}
from serving import logs

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = environment.DEBUG
SECRET_KEY = environment.SECRET_KEY
ALLOWED_HOSTS = environment.ALLOWED_HOSTS

# Proxies whose forwarded headers are used (serving/edge.py). This replaces
# SECURE_PROXY_SSL_HEADER and USE_X_FORWARDED_HOST.
TRUSTED_PROXIES = environment.TRUSTED_PROXIES


# Application definition

INSTALLED_APPS = [
    "{{ cookiecutter.project_slug }}.users",
    "{{ cookiecutter.project_slug }}.welcome",
    # Add your apps above this line, or at the end.
{% if cookiecutter.__channels %}
    "{{ cookiecutter.project_slug }}.chat",
    "channels",
{% endif %}
{% if cookiecutter.__sse %}
    "{{ cookiecutter.project_slug }}.notifications",
{% endif %}
{% if cookiecutter.__live %}
    "serving.live",
{% endif %}
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    # First, because probes of /health/… send no valid Host header and use plain http.
    "serving.health.health_middleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "serving.no_store.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "{{ cookiecutter.project_slug }}" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.csp",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
{% if cookiecutter.__wsgi or cookiecutter.__channels %}

{% endif %}
{% if cookiecutter.__wsgi %}
WSGI_APPLICATION = "config.wsgi.application"
{% endif %}
{% if cookiecutter.__channels %}
ASGI_APPLICATION = "config.asgi.application"
{% endif %}
{% if cookiecutter.__both %}

# Paths of the ASGI server: WebSockets, streams, async views. All others go to gunicorn.
ASGI_PATHS = ["/ws/", "/events/", "/async/"]
{% endif %}


# Database
# https://docs.djangoproject.com/en/6.1/ref/settings/#databases

DATABASES = {"default": DATABASE}

{% if cookiecutter.__asgi %}
# False runs stock Django under ASGI. It is slower, uses a thread and a new connection for
# each request, and does not replace a process that is stuck.
FAST_ASGI = True

# The maximum number of threads in each process, for sync views, for async views and for
# asyncio.to_thread(). It applies while they wait. While they compute, fewer threads run.
{% if cookiecutter.__postgresql %}
# Each thread may hold a connection. PostgreSQL's default limit is 100 connections.
{% endif %}
MAX_PAGE_THREADS = 40
MAX_VIEW_THREADS = 200
MAX_OTHER_THREADS = 100

{% endif %}
# A thread keeps its connection for a minute. Each request checks it first.
{% if cookiecutter.__asgi %}
DATABASES["default"]["CONN_MAX_AGE"] = 60 if FAST_ASGI else 0
{% else %}
DATABASES["default"]["CONN_MAX_AGE"] = 60
{% endif %}
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True


{% if cookiecutter.__channels %}
# Cache and channel layer
{% else %}
# Cache
{% endif %}
# https://docs.djangoproject.com/en/6.1/topics/cache/
{% if cookiecutter.__channels %}
# https://channels.readthedocs.io/en/stable/topics/channel_layers.html
{% endif %}
{% if cookiecutter.__live %}

# All keys and channels of this site in Redis begin with this. Redis channels ignore the
# database number, so without a prefix, sites would receive each other's messages.
REDIS_PREFIX = f"{{ cookiecutter.project_slug }}-{DATABASE_DIGEST}"
# Used by serving/live/hints.py to notify the other processes.
REDIS_URL = environment.REDIS_URL

if environment.REDIS_URL:
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": [environment.REDIS_URL],
            "KEY_PREFIX": REDIS_PREFIX,
            # Seconds: if Redis does not answer, pages must not wait for long.
            "OPTIONS": {"socket_connect_timeout": 2, "socket_timeout": 2},
        }
    }
{% if cookiecutter.__channels %}
    # Redis publish/subscribe stores nothing. First store messages that must not be lost.
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {
                "prefix": REDIS_PREFIX,
                # Seconds between checks of an idle connection.
                "hosts": [{"address": environment.REDIS_URL, "health_check_interval": 15}],
            },
        }
    }
{% endif %}
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
{% if cookiecutter.__channels %}
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
{% endif %}
{% else %}

# Each process has its own cache. Use a shared one if several processes need the same data.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
{% endif %}


# Users and passwords
# https://docs.djangoproject.com/en/6.1/topics/auth/

AUTH_USER_MODEL = "users.User"

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]


# Internationalization
# https://docs.djangoproject.com/en/6.1/topics/i18n/

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True


# Static files (CSS, JavaScript, Images)
# https://docs.djangoproject.com/en/6.1/howto/static-files/

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "{{ cookiecutter.project_slug }}" / "static"]

# In production, file names contain a hash of their content, so browsers can cache them.
STATICFILES_BACKEND = "servestatic.storage.CompressedManifestStaticFilesStorage"
if DEBUG:
    STATICFILES_BACKEND = "django.contrib.staticfiles.storage.StaticFilesStorage"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": STATICFILES_BACKEND},
}


# Uploads
# https://docs.djangoproject.com/en/6.1/topics/http/file-uploads/

# The limit of a request in bytes, files included. Larger requests are answered with 413. If
# nginx is the proxy, set its client_max_body_size to the same value.
MAX_BODY = 10 * 1024 * 1024

MEDIA_URL = "/media/"
MEDIA_ROOT = environment.MEDIA_ROOT

# The proxy serves the files, and runs as another user.
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o755


# Email
# https://docs.djangoproject.com/en/6.1/topics/email/

DEFAULT_FROM_EMAIL = environment.EMAIL_FROM
SERVER_EMAIL = environment.EMAIL_FROM

# Set another backend here, too: Django refuses EMAIL_BACKEND together with MAILERS.
MAILERS: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "OPTIONS": {**environment.MAIL_SERVER, "timeout": 10},
    }
}
if DEBUG and environment.EMAIL_URL == environment.DEFAULT_EMAIL_URL:
    # `just dev` prints them.
    MAILERS = {"default": {"BACKEND": "django.core.mail.backends.console.EmailBackend"}}


# Logging
# https://docs.djangoproject.com/en/6.1/topics/logging/

LOGGING = logs.configure(DEBUG)


# Security
# https://docs.djangoproject.com/en/6.1/topics/security/

CSRF_TRUSTED_ORIGINS = environment.CSRF_TRUSTED_ORIGINS
SECURE_SSL_REDIRECT = environment.HTTPS
SESSION_COOKIE_SECURE = environment.HTTPS
CSRF_COOKIE_SECURE = environment.HTTPS

# One year. Browsers store it, so this host cannot go back to plain http.
SECURE_HSTS_SECONDS = 60 * 60 * 24 * 365 if environment.HTTPS else 0

# Both checks are about https for all hosts of the domain, which only you can decide: see
# SECURE_HSTS_INCLUDE_SUBDOMAINS and SECURE_HSTS_PRELOAD.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

# Scripts and styles must come from this site, or have the nonce of their page.
SECURE_CSP = {
    "default-src": [CSP.SELF],
    "script-src": [CSP.SELF, CSP.NONCE],
    "style-src": [CSP.SELF, CSP.NONCE],
    "img-src": [CSP.SELF, "data:"],
    "object-src": [CSP.NONE],
    "base-uri": [CSP.NONE],
    "form-action": [CSP.SELF],
    "frame-ancestors": [CSP.NONE],
}
if DEBUG:
    # The log says what was blocked, and what to add here (serving/csp.py).
    SECURE_CSP["report-uri"] = ["/csp-report/"]
