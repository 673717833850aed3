"""Import the entry module, as a test does, and look what became of Django's receivers."""

import json
import os

import django
from django.core.handlers import asgi, wsgi  # noqa: F401
from django.core.signals import request_finished, request_started
from django.utils.module_loading import import_string

django.setup()


def names():
    return {
        getattr(receiver, "__qualname__", "")
        for signal in (request_started, request_finished)
        for receiver in signal._live_receivers(None)[0]
    }


before = names()
import_string(os.environ["FIDELITY_APPLICATION"])
print(json.dumps({"before": len(before), "kept": len(before & names())}))
