"""An ASGI server without Django: what is the most that uvicorn can do?"""

from pathlib import Path

FILES = {f"/{file.name}": file.read_bytes() for file in Path(__file__).parent.glob("*.css")}

# As many as the emitted static files have.
FILE_HEADERS = [
    (b"last-modified", b"Tue, 24 Nov 2026 09:00:00 GMT"),
    (b"etag", b'"6a14f3d0-2800"'),
    (b"cache-control", b"max-age=315360000, public, immutable"),
    (b"access-control-allow-origin", b"*"),
    (b"vary", b"Accept-Encoding"),
]


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        return await echo(receive, send)
    body = FILES.get(scope["path"], b"ok")
    headers = [(b"content-type", b"text/css"), (b"content-length", b"%d" % len(body))]
    if scope["path"] in FILES:
        headers += FILE_HEADERS
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(receive, send):
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "websocket.send", "text": event["text"]})
