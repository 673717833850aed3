"""Stands for systemd: keeps the socket of a server, and restarts the server on SIGHUP.

As a unit with a socket does it (deploy/systemd): `python -m keeper COMMAND`.
"""

import os
import signal
import socket
import subprocess
import sys

# Its number is what sd_listen_fds(3) says.
FIRST = 3
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=4096)
os.dup2(listener.fileno(), FIRST, inheritable=True)
# The server may only have it if its own number is in the variable.
COMMAND = ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', "sh", *sys.argv[1:]]


def unblock() -> None:
    """A child would inherit what is blocked here."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(COMMAND, pass_fds=[FIRST], preexec_fn=unblock)


def stop() -> None:
    server.terminate()
    server.wait()


signals = {signal.SIGHUP, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
server = start()
while signal.sigwait(signals) == signal.SIGHUP:
    stop()
    server = start()
stop()
