# The template updates this file: see serving/README.md.
"""Metrics of this process: its threads, sockets and streams.

They are logged once a minute, unless the process is idle. If `prometheus-client` or
`opentelemetry-api` is installed, they are exported as the gauges site_threads, site_sockets
and site_streams. For Prometheus you need to add an endpoint; its start_http_server() needs
a port for each process.
"""

import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import structlog

from serving import threads

logger = structlog.get_logger(__name__)

# Open WebSockets and streaming responses. Change it in the event loop only.
OPEN_COUNTS: Counter[str] = Counter({"sockets": 0, "streams": 0})

HELP = {
    "site_threads": "Threads of a pool, and the calls that wait for one",
    "site_sockets": "WebSockets that are open",
    "site_streams": "Streaming responses that are open",
}


def samples(name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the values of a gauge, each with its labels."""
    process = {"process": str(os.getpid())}
    if name != "site_threads":
        yield OPEN_COUNTS[name.removeprefix("site_")], process
        return
    for pool, states in threads.numbers().items():
        for state, value in states.items():
            yield value, {**process, "pool": pool, "state": state}


def log_numbers() -> None:
    """Log the metrics, unless the process is idle."""
    pools = threads.numbers()
    busy = any(OPEN_COUNTS.values()) or any(
        states["running"] or states["held"] or states["waiting"]
        for states in pools.values()
    )
    if busy:
        logger.info("load", **pools, **OPEN_COUNTS)


def export() -> None:
    """Log the metrics once a minute, and export them through the installed packages."""
    threads.watchdog.each_minute = log_numbers
    register()


@cache
def register() -> None:
    """Register the metrics, once: the packages refuse a second time."""
    if find_spec("prometheus_client"):
        export_to_prometheus()
    if find_spec("opentelemetry") and find_spec("opentelemetry.metrics"):
        export_to_opentelemetry()


def export_to_prometheus() -> None:
    """https://prometheus.github.io/client_python/collector/custom/"""
    core = import_module("prometheus_client.core")

    class Collector:
        def collect(self) -> Iterator[Any]:
            for name, text in HELP.items():
                found = list(samples(name))
                labels = sorted({label for _, own in found for label in own})
                family = core.GaugeMetricFamily(name, text, labels=labels)
                for value, own in found:
                    family.add_metric([own[label] for label in labels], value)
                yield family

    core.REGISTRY.register(Collector())


def export_to_opentelemetry() -> None:
    """https://opentelemetry.io/docs/specs/otel/metrics/api/#asynchronous-gauge"""
    metrics = import_module("opentelemetry.metrics")
    meter = metrics.get_meter(__name__)
    for name, text in HELP.items():

        def observe(options: Any, name: str = name) -> Iterator[Any]:
            return (metrics.Observation(value, labels) for value, labels in samples(name))

        meter.create_observable_gauge(name, callbacks=[observe], description=text)
