"""Ask for a page, fork, and ask for one in the child."""

import asyncio
import json
import os
import signal
import time

from fidelity_application import status

first = asyncio.run(status())
# Its threads have nothing to do any more.
time.sleep(0.5)
child = os.fork()
if child == 0:
    signal.alarm(25)
    answer = 1
    try:
        answer = 0 if asyncio.run(status()) == 200 else 1
    finally:
        os._exit(answer)
_, ended = os.waitpid(child, 0)
print(json.dumps({"first": first, "child": 200 if ended == 0 else 0}))
