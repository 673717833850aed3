import asyncio
from collections.abc import AsyncGenerator

import strawberry
from strawberry.types import Info


@strawberry.type
class Query:
    @strawberry.field
    def hello(self, info: Info, name: str) -> str:
        return f"Hello {name}"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, target: int) -> AsyncGenerator[int]:
        for number in range(target):
            yield number
            await asyncio.sleep(0.01)


schema = strawberry.Schema(query=Query, subscription=Subscription)
