# The template updates this file: see serving/README.md.
"""The limits of request line and headers, the same under gunicorn and uvicorn.

Requests that exceed them get 414 or 431. The proxies accept a little more, so that the
response is that of the servers.
"""

# Bytes of the request line, and of each header, with the line break.
MAX_HEADER_LINE = 8 * 1024
# The number of headers.
MAX_HEADERS = 100
# Bytes of all headers together, with the line breaks.
MAX_HEADER_BYTES = 16 * 1024
