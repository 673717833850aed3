from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth import get_user_model
from my_site.chat import limits
from my_site.chat.consumers import ChatConsumer
from serving.live import hub

# Here one person says everything, and has a thousand sockets.
limits.MESSAGES_PER_SECOND = limits.SOCKETS_PER_USER = 1_000_000


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data)


class Broadcast(AsyncWebsocketConsumer):
    """What one says everybody hears, in every process, as Channels documents it: a group of
    sockets, each of which encodes for itself. Nothing is stored."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("bench", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("bench", self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send("bench", {"type": "bench.said", "text": text_data})

    async def bench_said(self, event: dict[str, str]) -> None:
        await self.send(text_data=event["text"])


class Chat(ChatConsumer):
    """The emitted chat, in which everybody is the same person."""

    async def connect(self) -> None:
        self.scope["user"] = await database_sync_to_async(self.somebody)()
        await super().connect()

    @staticmethod
    def somebody() -> object:
        user, _ = get_user_model().objects.get_or_create(username="somebody")
        return user


# Nobody has a session that could end.
hub.users_of = lambda keys: [Chat.somebody()] * len(keys)
