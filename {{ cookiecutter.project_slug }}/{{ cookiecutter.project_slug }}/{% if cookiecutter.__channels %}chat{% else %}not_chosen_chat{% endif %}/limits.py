"""What one person may ask for. Whoever asks for more is told which limit it was."""

from .models import Message

# Characters of a message. The frame around it has its own limit, in bytes: ws_max_size in
# config/uvicorn_conf.py.
MESSAGE_LENGTH = Message.MAX_LENGTH
# Of one person, whatever the number of sockets and processes.
MESSAGES_PER_SECOND = 5
SOCKETS_PER_USER = 20
ROOMS_PER_SOCKET = 10

# Messages that a room shows to whoever enters it.
HISTORY = 50
# Messages that wait in this process's memory for a browser that reads slowly. What comes
# after them is read from the database when they are gone.
WAITING = 50
