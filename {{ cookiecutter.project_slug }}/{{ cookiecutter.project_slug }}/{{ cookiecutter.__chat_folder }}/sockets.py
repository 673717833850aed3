import secrets

from serving.live.subscribers import Read, Subscriber


class Socket(Subscriber):
    """An open socket of the chat. It gets messages and lists of people."""

    def __init__(self, read: Read, user_id: int, session_key: str | None) -> None:
        super().__init__(read, user_id, session_key)
        # Its key in the table of presence.
        self.name = secrets.token_hex(16)
        # The newest list of each room that is not sent yet, and the last that was sent.
        self.people: dict[str, str] = {}
        self.people_sent: dict[str, str] = {}

    def offer_people(self, room: str, frame: str) -> None:
        """Take the list of people in a room. It replaces an older one that was not sent."""
        if frame != self.people_sent.get(room):
            self.people[room] = frame
            self.wake.set()

    def last_of_all(self) -> str | None:
        while self.people:
            room, frame = self.people.popitem()
            if room in self.places:
                self.people_sent[room] = frame
                return frame
        return None
