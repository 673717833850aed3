"""What the tests of serving/edge.py ask, and what it logs of that."""

from django.conf import settings

PROXY = "127.0.0.1"
MAX_BODY = settings.MAX_BODY
STRANGER = "198.51.100.7"
FORWARDED = [
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Forwarded-SSL",
    "X-Real-IP",
]
# What a request to the applications below leaves in the log.
ACCESS_LINE = {
    "log_level": "info",
    "event": "request",
    "client": PROXY,
    "host": "shop.example",
    "path": "/buy/",
    "method": "POST",
    "status": 302,
    "milliseconds": 250.2,
}
