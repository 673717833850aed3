# The template updates this file: see serving/README.md.
"""How much of a request is read before Django is asked, by gunicorn and uvicorn alike.

Bytes, line ends included: of the request line or of one header; headers; bytes of these.
What is larger is a 414 or a 431. Proxies read a little more, and leave that to the servers.
"""

LINE = 8 * 1024
HEADERS = 100
HEAD = 16 * 1024
