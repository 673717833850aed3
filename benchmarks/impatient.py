"""Sends requests, of which every second is given up within 5 ms; run by load.py as a process.

    python impatient.py PORT PATH REQUESTS SECONDS

It ends after so many requests or so many seconds and writes a line of JSON: how many were
sent, and how many of those that waited got something else than a 200.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator

CONNECTIONS = 64
# Seconds that a client waits for an answer before it counts as an error.
PATIENCE = 20


async def main() -> None:
    port, path, requests, seconds = sys.argv[1:]
    ends = time.monotonic() + float(seconds)
    chance = random.Random(1)
    text = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    sent = errors = 0

    async def one(number: int) -> None:
        nonlocal sent, errors
        sent += 1
        writer = None
        try:
            # A server whose queue is full does not even let the connection come about.
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
                writer.write(text)
                if number % 2:
                    await asyncio.sleep(chance.random() * 0.005)
                    writer.transport.abort()
                    return
                answer = await reader.read()
            # Not in one line with the wait, during which others count.
            errors += b" 200 " not in answer[:15]
        except (OSError, TimeoutError):
            errors += 1
        finally:
            if writer:
                writer.close()

    async def client(numbers: Iterator[int]) -> None:
        for number in numbers:
            if time.monotonic() > ends:
                return
            await one(number)

    numbers = iter(range(int(requests)))
    await asyncio.gather(*(client(numbers) for _ in range(CONNECTIONS)))
    print(json.dumps({"sent": sent, "errors": errors}))


if __name__ == "__main__":
    asyncio.run(main())
