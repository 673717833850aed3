"""Visit a page all along, each time on a new connection, until standard input ends.

Prints how often there was which outcome. Runs on a network of its own, with nothing installed.
"""

import collections
import http.client
import json
import sys
import threading

CLIENTS = 6
# Seconds between two visits of a client: a port that was used is not free again at once.
PAUSE = 0.02


def visit(port: int, method: str, path: str, ended: threading.Event) -> collections.Counter[str]:
    outcomes: collections.Counter[str] = collections.Counter()
    while not ended.wait(PAUSE):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request(method, path, headers={"Host": "localhost"})
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
        visits = [pool.submit(visit, port, method, path, ended) for _ in range(CLIENTS)]
        sys.stdin.read()
        ended.set()
    print(json.dumps(sum((each.result() for each in visits), collections.Counter())))
