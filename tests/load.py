"""Visit a page all along, each time on a new connection, until standard input ends.

With a domain as the last argument it speaks https, and believes every certificate.
Prints how often there was which outcome. Runs on a network of its own, with nothing installed.
"""

import collections
import http.client
import json
import socket
import ssl
import sys
import threading

CLIENTS = 6
# Seconds between two visits of a client: a port that was used is not free again at once.
PAUSE = 0.02


def connect(port: int, domain: str) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    if domain:
        context = ssl._create_unverified_context()
        plain = socket.create_connection(("127.0.0.1", port), 60)
        connection.sock = context.wrap_socket(plain, server_hostname=domain)
    return connection


def visit(
    port: int, method: str, path: str, domain: str, ended: threading.Event
) -> collections.Counter[str]:
    outcomes: collections.Counter[str] = collections.Counter()
    while not ended.wait(PAUSE):
        try:
            connection = connect(port, domain)
        except OSError as error:
            outcomes[repr(error)] += 1
            continue
        try:
            connection.request(method, path, headers={"Host": domain or "localhost"})
            response = connection.getresponse()
            response.read()
            outcomes[str(response.status)] += 1
        except (OSError, http.client.HTTPException) as error:
            outcomes[repr(error)] += 1
        finally:
            connection.close()
    return outcomes


if __name__ == "__main__":
    from concurrent.futures import ThreadPoolExecutor

    ended = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as pool:
        port, method, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
        domain = "".join(sys.argv[4:])
        visits = [pool.submit(visit, port, method, path, domain, ended) for _ in range(CLIENTS)]
        sys.stdin.read()
        ended.set()
    print(json.dumps(sum((each.result() for each in visits), collections.Counter())))
