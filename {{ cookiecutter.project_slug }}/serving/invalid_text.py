# The template updates this file: see serving/README.md.
"""A request with text that a database refuses is answered with 400, not with 500.

PostgreSQL refuses zero bytes, and no database stores a lone surrogate. Clients can send
both in cookies, URLs and JSON, and Django passes them on.

This relies on SessionBase._validate_session_key and on the database's execute_wrappers.
"""

from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import BadRequest
from django.db import DataError
from django.db.backends.signals import connection_created

# Such a session key counts as missing, because the error page reads the session, too.
sessions: Any = SessionBase
is_key = sessions._validate_session_key
sessions._validate_session_key = lambda self, key: is_key(self, key) and key.isprintable()


def guard(connection: Any, **kwargs: Any) -> None:
    """Make a new connection raise BadRequest for such text."""
    connection.execute_wrappers.insert(0, refuse)


def refuse(execute: Any, *arguments: Any) -> Any:
    try:
        return execute(*arguments)
    except (DataError, UnicodeEncodeError) as error:
        if isinstance(error, DataError) and "NUL" not in str(error):
            raise
        raise BadRequest("text that no database stores") from None


connection_created.connect(guard, dispatch_uid=__name__)
