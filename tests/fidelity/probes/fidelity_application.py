"""The application that is tested, asked without a server; and its two ways of being forked."""

import os

from asgiref.testing import ApplicationCommunicator
from django.utils.module_loading import import_string

NAME = os.environ["FIDELITY_APPLICATION"]


async def status() -> int:
    """Import the application, ask it for a page, and return the status."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/f/page/",
        "raw_path": b"/f/page/",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }
    communicator = ApplicationCommunicator(import_string(NAME), scope)
    await communicator.send_input({"type": "http.request", "body": b"", "more_body": False})
    event = await communicator.receive_output(timeout=15)
    await communicator.wait(timeout=15)
    return event["status"]
