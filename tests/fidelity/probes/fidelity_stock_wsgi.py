"""The same project served by Django as it ships."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fidelity_settings")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
