import secrets

from serving.live.subscribers import Read, Subscriber


class Socket(Subscriber):
    """An open socket of the chat, which is sent messages and lists of people."""

    def __init__(self, read: Read, user_id: int, session_key: str | None) -> None:
        super().__init__(read, user_id, session_key)
        # What it is called in the table of presence.
        self.name = secrets.token_hex(16)
        # The newest list of each room until it is sent, and the one that was sent.
        self.people: dict[str, str] = {}
        self.people_sent: dict[str, str] = {}

    def offer_people(self, room: str, frame: str) -> None:
        """Take the list of who is in a room. Only the newest one counts."""
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
