from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error


def check_channel_layer(**kwargs: Any) -> list[CheckMessage]:
    """Refuse production with several processes and an in-memory channel layer."""
    from config.uvicorn_conf import in_memory_problem

    problem = None if settings.DEBUG else in_memory_problem()
    return [Error(problem, id="chat.E001")] if problem else []
