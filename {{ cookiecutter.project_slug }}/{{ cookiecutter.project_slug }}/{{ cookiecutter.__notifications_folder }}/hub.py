"""The open streams of one process. serving/live/ wakes them."""

from itertools import batched

from django.db.models import Max

from serving.live import hub
from serving.live.batches import Batch
from serving.live.subscribers import Frame, Subscriber

from .models import Notification


class Hub(hub.Hub[Subscriber]):
    """The streams of this process. Topics are the ids of users."""

    # Seconds. The README promises that a stream ends this soon after its session.
    CHECK_INTERVAL = 15.0

    def __init__(self) -> None:
        super().__init__()
        # After a restart of the server, all browsers reconnect at the same time.
        self.find_newest = Batch(self.newest_of)

    def count(self, user_id: int) -> int:
        """Return how many streams a user has in this process."""
        topic = self.topics.get(str(user_id))
        return len(topic.subscribers) if topic else 0

    def newest(self, topics: list[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        # Databases limit the number of parameters of a statement.
        for some in batched(topics, 500, strict=False):
            newest = Notification.objects.filter(user__in=map(int, some)).order_by()
            for user_id, last in newest.values_list("user").annotate(Max("pk")):
                found[str(user_id)] = last
        return found

    def newest_of(self, users: list[int]) -> list[int]:
        """Return the id of each user's newest notification, or 0."""
        found = self.newest([str(user) for user in users])
        return [found.get(str(user), 0) for user in users]

    def read(self, topic: str, after: int, limit: int) -> list[Frame]:
        later = Notification.objects.filter(user=int(topic), pk__gt=after).order_by("pk")
        return [(one.pk, one.as_event()) for one in later[:limit]]

    async def begin_after(self, user_id: int, after: int | None) -> tuple[int, int]:
        """Return the id after which a stream starts, and the user's newest id."""
        newest = await self.find_newest(user_id)
        # After a restore of the database, `after` can be an id that does not exist yet.
        return newest if after is None else min(after, newest), newest
