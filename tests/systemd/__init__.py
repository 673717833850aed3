"""deployment=systemd: the units as systemd reads them, and a machine that is installed for real.

The machine has Debian's own systemd and nginx, so what the units forbid is forbidden there, and
its sockets are passed on by systemd.
"""
