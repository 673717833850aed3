# The template updates this file: see serving/README.md.
"""The limits of a request's head, the same under gunicorn and uvicorn.

Larger requests are answered with 414 or 431. The proxies accept a little more, so that the
answer is that of the servers.
"""

# Bytes of the request line, and of each header, with its line end.
LINE = 8 * 1024
# The number of headers.
HEADERS = 100
# Bytes of all headers together, with their line ends.
HEAD = 16 * 1024
