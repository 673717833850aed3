"""What one person may do and ask for. Whoever asks for more is told which limit it was."""

from django.contrib.auth.models import AnonymousUser

from {{ cookiecutter.project_slug }}.users.models import User

from .models import Message

# Characters of a message. The frame around it has its own limit, in bytes: ws_max_size in
# config/uvicorn_conf.py.
MESSAGE_LENGTH = Message.MAX_LENGTH
# Of one person, whatever the number of sockets and processes.
MESSAGES_PER_SECOND = 5
SOCKETS_PER_USER = 20
ROOMS_PER_SOCKET = 10
# Of any kind: rooms that are entered and left, questions whether somebody is there.
FRAMES_PER_SECOND = 20

# Messages that a room shows to whoever enters it.
HISTORY = 50


def may_enter(user: User | AnonymousUser, room: str) -> bool:
    """Return whether somebody may read and speak in a room.

    Whoever is logged in may, in every room. Change this one place. It is called in the
    event loop, so it must not ask the database.
    """
    return user.is_authenticated
