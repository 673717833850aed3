"""The same project served by Django as it ships."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fidelity_settings")

from django.core.asgi import get_asgi_application

application = get_asgi_application()
