"""The protocol of the chat: JSON objects over a WebSocket.

From the browser. Without `room`, it is the room of the socket's path:

    {"type": "message", "key": "…", "text": "…"}    publish; each message has its own `key`
    {"type": "enter", "room": "…", "after": 12}     subscribe, starting after this message
    {"type": "leave", "room": "…"}                  unsubscribe
    {"type": "ping"}                                answered with pong

To the browser:

    {"type": "message", "room": …, "id": …, "key": …, "author": …, "text": …, "sent_at": …}
    {"type": "stored", "key": …, "id": …}           acknowledges a message: it is stored
    {"type": "people", "room": …, "names": […], "count": …}    who is in the room now
    {"type": "error", "text": …}                    with the `limit` that was exceeded, the
                                                    `key`, and `again` if a retry may work
    {"type": "pong"}
"""

import json
import re
from dataclasses import dataclass

from . import limits
from .models import Message, Room

# The largest id that databases allow.
MAX_ID = 2**63 - 1

# A close code of WebSockets. serving/live/subscribers.py has the others.
TOO_MANY_SOCKETS = 4429


class FrameError(Exception):
    """What is wrong with a frame, as a text for its sender.

    `limit` is the name of the limit that it exceeded, `key` that of its message, if any.
    """

    def __init__(self, text: str, limit: str = "", key: str = "") -> None:
        super().__init__(text)
        self.limit = limit
        self.key = key


@dataclass(frozen=True)
class Frame:
    """A frame from a browser: its type, and the fields of that type."""

    type: str
    room: str = ""
    key: str = ""
    text: str = ""
    after: int | None = None


def parse(data: str | None, room: str) -> Frame:
    """Return the content of a text frame; `room` is its room if it names none.

    Raises FrameError for anything that is not valid. The client may be anything, not only
    a browser with our page.
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
    """Return whether a room can have this name. It is valid as a group name, too."""
    return bool(re.fullmatch(r"[A-Za-z0-9_-]+", name)) and len(name) <= Room.NAME_MAX_LENGTH


def clean_key(frame: dict[str, object]) -> str:
    """Return the key of a message."""
    key = frame.get("key")
    if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key):
        raise FrameError('A message has a "key": 1 to 64 letters, digits, - and _.')
    return key


def clean_text(text: object) -> str:
    """Return the text of a message as it will be stored."""
    if not isinstance(text, str):
        raise FrameError('A message has a "text", which is a string.')
    text = text.strip()
    if not text:
        raise FrameError("That message is empty.")
    if len(text) > limits.MESSAGE_LENGTH:
        raise FrameError(
            f"A message has {limits.MESSAGE_LENGTH} characters at most.", "message length"
        )
    # PostgreSQL cannot store NUL. UTF-8 cannot encode lone surrogates.
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise FrameError("That message has a character that cannot be stored.")
    return text


def parse_after(value: object) -> int | None:
    """Return a message's id from a number or a string of digits; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value):
        value = int(value)
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ID
    return int(value) if known else None  # type: ignore[call-overload]


def encode(type_: str, **fields: object) -> str:
    """Return a frame for the browser."""
    return json.dumps({"type": type_, **fields}, ensure_ascii=False)


def encode_message(message: Message, room: str) -> str:
    """Return the frame of a message. It is the same for every recipient."""
    return encode(
        "message",
        room=room,
        id=message.pk,
        key=message.key,
        author=message.author.get_username(),
        text=message.text,
        sent_at=message.sent_at.isoformat(),
    )
