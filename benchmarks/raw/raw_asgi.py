"""An ASGI server without Django: what is the most that uvicorn can do?"""

from pathlib import Path

FILES = {f"/{file.name}": file.read_bytes() for file in Path(__file__).parent.glob("*.css")}


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        return await echo(receive, send)
    body = FILES.get(scope["path"], b"ok")
    headers = [(b"content-type", b"text/css"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(receive, send):
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "websocket.send", "text": event["text"]})
