"""The open streams of one process. What wakes them is in serving/live/."""

from itertools import batched

from django.db.models import Max

from serving.live import hub
from serving.live.batches import Batch
from serving.live.shutdown import stop_on_signals
from serving.live.subscribers import Frame, Subscriber

from .models import Notification


class Hub(hub.Hub[Subscriber]):
    """The streams of this process. The topics are the ids of users."""

    # It is a promise of docs and README that a stream ends so soon after its session.
    CHECK_INTERVAL = 15.0

    def __init__(self) -> None:
        super().__init__()
        stop_on_signals()
        # Browsers come together, when a server restarts.
        self.find_newest = Batch(self.newest_of)

    def count(self, user_id: int) -> int:
        """Return how many streams a user has here."""
        topic = self.topics.get(str(user_id))
        return len(topic.subscribers) if topic else 0

    def newest(self, topics: list[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        # A statement can have so many parameters and no more.
        for some in batched(topics, 500, strict=False):
            newest = Notification.objects.filter(user__in=map(int, some)).order_by()
            for user_id, last in newest.values_list("user").annotate(Max("pk")):
                found[str(user_id)] = last
        return found

    def newest_of(self, users: list[int]) -> list[int]:
        """Return the id of each user's newest notification, 0 where there is none."""
        found = self.newest([str(user) for user in users])
        return [found.get(str(user), 0) for user in users]

    def read(self, topic: str, after: int, limit: int) -> list[Frame]:
        later = Notification.objects.filter(user=int(topic), pk__gt=after).order_by("pk")
        return [(one.pk, one.as_event()) for one in later[:limit]]

    async def begin_after(self, user_id: int, after: int | None) -> tuple[int, int]:
        """Return the id after which a stream begins, and the user's newest."""
        newest = await self.find_newest(user_id)
        # An id from before the database was restored may be one that is still to come.
        return newest if after is None else min(after, newest), newest
