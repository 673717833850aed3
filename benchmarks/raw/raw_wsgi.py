"""A WSGI server without Django: what is the most that gunicorn can do?"""

from pathlib import Path

FILES = {f"/{file.name}": file.read_bytes() for file in Path(__file__).parent.glob("*.css")}

# As many as the emitted static files have.
FILE_HEADERS = [
    ("Last-Modified", "Tue, 24 Nov 2026 09:00:00 GMT"),
    ("ETag", '"6a14f3d0-2800"'),
    ("Cache-Control", "max-age=315360000, public, immutable"),
    ("Access-Control-Allow-Origin", "*"),
    ("Vary", "Accept-Encoding"),
]


def application(environ, start_response):
    body = FILES.get(environ["PATH_INFO"], b"ok")
    headers = [("Content-Type", "text/css"), ("Content-Length", str(len(body)))]
    if environ["PATH_INFO"] in FILES:
        headers += FILE_HEADERS
    start_response("200 OK", headers)
    return [body]
