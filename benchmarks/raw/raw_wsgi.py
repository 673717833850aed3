"""A WSGI server without Django: what is the most that gunicorn can do?"""

from pathlib import Path

FILES = {f"/{file.name}": file.read_bytes() for file in Path(__file__).parent.glob("*.css")}


def application(environ, start_response):
    body = FILES.get(environ["PATH_INFO"], b"ok")
    headers = [("Content-Type", "text/css"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
