# The template updates this file: see serving/README.md.
"""Text that no database takes is the client's mistake: a 400, and not a 500.

A zero byte, which PostgreSQL refuses, or half of a character. Both come in cookies, in
addresses and in JSON, and Django hands them on as they are.
"""

from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import BadRequest
from django.db import DataError
from django.db.backends.signals import connection_created

# A session key of that kind is none: the error page asks for the session too.
sessions: Any = SessionBase
is_key = sessions._validate_session_key
sessions._validate_session_key = lambda self, key: is_key(self, key) and key.isprintable()


def guard(connection: Any, **kwargs: Any) -> None:
    """Have a new connection refuse such a text."""
    connection.execute_wrappers.insert(0, refuse)


def refuse(execute: Any, *arguments: Any) -> Any:
    try:
        return execute(*arguments)
    except (DataError, UnicodeEncodeError) as error:
        if isinstance(error, DataError) and "NUL" not in str(error):
            raise
        raise BadRequest("text that no database takes") from None


connection_created.connect(guard, dispatch_uid=__name__)
