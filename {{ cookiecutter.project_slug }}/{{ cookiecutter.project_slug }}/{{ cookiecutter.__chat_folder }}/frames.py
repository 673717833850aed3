"""The language that browsers and this site speak over a WebSocket: JSON objects.

From the browser, with `room` left out for the one of the socket's own path:

    {"type": "message", "key": "…", "text": "…"}    say something; `key` is its own for it
    {"type": "enter", "room": "…", "after": 12}     hear a room, from this message on
    {"type": "leave", "room": "…"}
    {"type": "ping"}                                is somebody there?

To the browser:

    {"type": "message", "room": …, "id": …, "key": …, "author": …, "text": …, "sent_at": …}
    {"type": "stored", "key": …, "id": …}           it will not be lost any more
    {"type": "people", "room": …, "names": […], "count": …}    who is here now
    {"type": "error", "text": …}                    with `limit`, the name of one that was
                                                    broken, `key`, and `again` to repeat it
    {"type": "pong"}
"""

import json
import re
from dataclasses import dataclass

from . import limits
from .models import Message, Room

# The largest number that databases have for an id.
LAST_ID = 2**63 - 1

# A code with which a socket is closed, beside those in serving/live/subscribers.py.
TOO_MANY_SOCKETS = 4429


class FrameError(Exception):
    """What is wrong with a frame, for the person who sent it; `limit` names one it broke.

    `key` is that of the message, if it had one.
    """

    def __init__(self, text: str, limit: str = "", key: str = "") -> None:
        super().__init__(text)
        self.limit = limit
        self.key = key


@dataclass(frozen=True)
class Frame:
    """What a browser said: what kind it is, and what that kind needs."""

    type: str
    room: str = ""
    key: str = ""
    text: str = ""
    after: int | None = None


def parse(data: str | None, room: str) -> Frame:
    """Return what is in a text frame; `room` is where it belongs if it names none.

    Raises FrameError for anything that this site does not understand: a browser is only one
    of the things that can be at the other end.
    """
    if data is None:
        raise FrameError("This chat takes text frames only.")
    try:
        frame = json.loads(data)
    except (ValueError, RecursionError):
        raise FrameError("That frame is not JSON.") from None
    if not isinstance(frame, dict):
        raise FrameError("That frame is not an object.")
    room = frame.get("room", room)
    if not isinstance(room, str) or not is_room_name(room):
        raise FrameError('A "room" is a name of letters, digits, hyphens and underscores.')
    match frame.get("type"):
        case "message":
            key = clean_key(frame)
            try:
                return Frame("message", room, key, clean_text(frame.get("text")))
            except FrameError as error:
                error.key = key
                raise
        case "enter":
            return Frame("enter", room, after=parse_after(frame.get("after")))
        case "leave":
            return Frame("leave", room)
        case "ping":
            return Frame("ping")
    raise FrameError('A frame has a "type": message, enter, leave or ping.')


def is_room_name(name: str) -> bool:
    """Return whether a room can have this name; group names of Channels can then, too."""
    return bool(re.fullmatch(r"[A-Za-z0-9_-]+", name)) and len(name) <= Room.NAME_MAX_LENGTH


def clean_key(frame: dict[str, object]) -> str:
    """Return the key of a message."""
    key = frame.get("key")
    if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key):
        raise FrameError('A message has a "key": 1 to 64 letters, digits, - and _.')
    return key


def clean_text(text: object) -> str:
    """Return the text of a message as it is stored."""
    if not isinstance(text, str):
        raise FrameError('A message has a "text", which is a string.')
    text = text.strip()
    if not text:
        raise FrameError("That message is empty.")
    if len(text) > limits.MESSAGE_LENGTH:
        raise FrameError(
            f"A message has {limits.MESSAGE_LENGTH} characters at most.", "message length"
        )
    # JSON can spell both; PostgreSQL cannot store the one, nor UTF-8 the other.
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise FrameError("That message has a character that cannot be stored.")
    return text


def parse_after(value: object) -> int | None:
    """Return a message's id, given as a number or its digits; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value):
        value = int(value)
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LAST_ID
    return int(value) if known else None  # type: ignore[call-overload]


def encode(type_: str, **fields: object) -> str:
    """Return a frame for the browser."""
    return json.dumps({"type": type_, **fields}, ensure_ascii=False)


def encode_message(message: Message, room: str) -> str:
    """Return the frame of a message, the same for everybody who gets it."""
    return encode(
        "message",
        room=room,
        id=message.pk,
        key=message.key,
        author=message.author.get_username(),
        text=message.text,
        sent_at=message.sent_at.isoformat(),
    )
