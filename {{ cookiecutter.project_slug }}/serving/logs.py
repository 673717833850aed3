# The template updates this file: see serving/README.md.
"""Logs to standard output, one event per line: JSON in production, coloured in development.

Django and its server use the same configuration, so that their lines look the same.
"""

import copy
import logging
import sys
{% if cookiecutter.__asgi %}
from pathlib import Path
{% endif %}
from typing import Any

import structlog
{% if cookiecutter.__wsgi %}
from structlog.typing import EventDict, Processor
{% else %}
from structlog.typing import Processor
{% endif %}

# The fields of every line; contextvars have the request's id (see serving/edge.py).
SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]

{% if cookiecutter.__wsgi %}

def without_stale_id(logger: Any, name: str, event: EventDict) -> EventDict:
    """Remove the id from gunicorn's own lines: it is that of the last request."""
    if event["logger"].startswith("gunicorn"):
        event.pop("request_id", None)
    return event

{% endif %}

def as_message(logger: Any, name: str, line: Any) -> tuple[tuple[str], dict[str, Any]]:
    """Pass a rendered line to the standard library's logging."""
    return (line,), {"extra": {"finished": True}}


{% if cookiecutter.__asgi %}
class SocketFilter(logging.Filter):
    """Removes lines about WebSockets that the access line repeats without the query string,
    which may contain a token. Also removes errors that any client can cause."""

    def filter(self, record: logging.LogRecord) -> bool:
        # uvicorn's protocol and the library websockets are both in such a folder.
        return Path(record.pathname).parent.name != "websockets" or (
            record.levelno >= logging.ERROR and "UTF-8" not in str(record.msg)
        )


{% endif %}
class Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders the lines of libraries. structlog's own lines are already rendered, because
    rendering them here would double the time for an access line."""

    def format(self, record: logging.LogRecord) -> str:
        if hasattr(record, "finished"):
            return str(record.msg)
        if record.name.startswith("django.security."):
            # Any client can cause these, and the message is enough. Other handlers, such as
            # Sentry's, get the record as it is.
            record = copy.copy(record)
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.exc_info = None
        return super().format(record)


def configure(debug: bool) -> dict[str, Any]:
    """Set up structlog and return the dictionary for logging.config.dictConfig."""
    renderer: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
        if debug
        else [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *renderer,
            as_message,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structlog": {
                "()": Formatter,
{% if cookiecutter.__wsgi %}
                "foreign_pre_chain": [*SHARED, without_stale_id],
{% else %}
                "foreign_pre_chain": SHARED,
{% endif %}
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *renderer,
                ],
            },
        },
        "filters": {
            "outages": {"()": "serving.outages.Filter"},
{% if cookiecutter.__asgi %}
            "sockets": {"()": SocketFilter},
{% endif %}
        },
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "structlog",
            },
        },
        "root": {"handlers": ["stdout"], "level": "INFO"},
        "loggers": {
            # Without their own handlers, which would log everything twice.
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            # runserver's own access lines.
            "django.server": {"handlers": [], "level": "ERROR", "propagate": True},
{% if cookiecutter.__wsgi %}
            "gunicorn.error": {"handlers": [], "level": "INFO", "propagate": True},
{% endif %}
{% if cookiecutter.__asgi %}
            # It logs each changed file. uvicorn logs those that cause a reload.
            "watchfiles": {"level": "WARNING"},
            "uvicorn.error": {"filters": ["outages", "sockets"]},
{% endif %}
{% if cookiecutter.__channels %}
            "channels_redis.pubsub": {"filters": ["outages"]},
{% endif %}
            # The access line of serving/edge.py shows 4xx responses already.
            "django.request": {"level": "ERROR", "filters": ["outages"]},
            # Scanners often send wrong Host headers; the access line shows them.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
        },
    }
