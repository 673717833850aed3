"""The emitted application, and a WebSocket that sends back what it gets."""

from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from config.asgi import application as site
from serving.edge import ASGIEdge


class Echo(AsyncWebsocketConsumer):
    channel_layer_alias = None

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)


echo = ASGIEdge(Echo.as_asgi())


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve `/echo` without a check of its origin: the suite is no browser and sends none."""
    inner = echo if scope["type"] == "websocket" and scope["path"] == "/echo" else site
    await inner(scope, receive, send)
