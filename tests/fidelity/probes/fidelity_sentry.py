"""Sentry as its documentation sets it up; what it would send goes to a file."""

import json
import os
from pathlib import Path

import sentry_sdk
from sentry_sdk.transport import Transport

REPORTS = Path(os.environ["FIDELITY_REPORTS"])


class ToFile(Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            if item.headers["type"] not in ("event", "transaction"):
                continue
            event = item.payload.json
            crumbs = event.get("breadcrumbs") or {}
            report = {
                "type": item.headers["type"],
                "url": (event.get("request") or {}).get("url", ""),
                "crumbs": [
                    crumb["message"]
                    for crumb in (crumbs.get("values", []) if crumbs else [])
                    if crumb.get("category") == "fidelity"
                ],
            }
            with REPORTS.open("a") as file:
                file.write(json.dumps(report) + "\n")


sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1", transport=ToFile, traces_sample_rate=1.0, debug=False
)
