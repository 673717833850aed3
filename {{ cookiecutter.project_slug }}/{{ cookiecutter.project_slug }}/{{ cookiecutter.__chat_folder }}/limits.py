"""What one user may do. The error of a frame names the limit that was exceeded."""

from django.contrib.auth.models import AnonymousUser

from {{ cookiecutter.project_slug }}.users.models import User

from .models import Message

# Characters of a message. The size of a frame, in bytes, is limited by ws_max_size in
# config/uvicorn_conf.py.
MESSAGE_LENGTH = Message.MAX_LENGTH
# For each user, in all sockets and processes together.
MESSAGES_PER_SECOND = 5
SOCKETS_PER_USER = 20
ROOMS_PER_SOCKET = 10
# For each socket, frames of any type.
FRAMES_PER_SECOND = 20

# Messages that a room shows when somebody enters it.
HISTORY = 50


def may_enter(user: User | AnonymousUser, room: str) -> bool:
    """Return whether a user may read and write in a room.

    Everybody who is logged in may enter every room. Change this function to restrict that.
    It is called in the event loop, so it must not query the database.
    """
    return user.is_authenticated
