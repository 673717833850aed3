"""The settings of probe_settings, with faults that a file asks for."""

import os
import time
from datetime import timedelta
from pathlib import Path

from django.utils import timezone
from probe_settings import *  # noqa: F403

ROOT_URLCONF = "faults_urls"

# A new version that cannot be imported, or takes long to be.
if release := os.environ.get("FAULTS_RELEASE"):
    new = Path(release).read_text()
    if new == "broken":
        raise RuntimeError("This version is broken.")
    if new:
        time.sleep(float(new))

# gunicorn loads the settings before its workers: see hurried.py for uvicorn.
if seconds_to_read := os.environ.get("FAULTS_READ_TIMEOUT"):
    from serving import gunicorn_worker

    gunicorn_worker.READ_TIMEOUT = int(seconds_to_read)

# Seconds by which the clock of this host is wrong, which a file may change at any time. Who asks
# for the time reads it: a thread would be in gunicorn's first process only, and not in its workers.
if clock := os.environ.get("FAULTS_CLOCK"):
    now, seconds = timezone.now, time.time
    offset, read_at = 0.0, -1.0

    def wrong() -> float:
        global offset, read_at
        if (moment := time.monotonic()) > read_at + 0.2:
            # Empty while it is written.
            offset, read_at = float(Path(clock).read_text() or offset), moment
        return offset

    timezone.now = lambda: now() + timedelta(seconds=wrong())
    time.time = lambda: seconds() + wrong()
