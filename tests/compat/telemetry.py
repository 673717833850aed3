"""Becomes config/telemetry.py of the project: a line for each span, in a file of the test."""

import os
from pathlib import Path

from opentelemetry import trace
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor


def instrument() -> None:
    """Call it where the documentation says: in wsgi.py or asgi.py, before the application."""
    spans = Path(os.environ["SPANS"]).open("a", buffering=1)  # noqa: SIM115
    exporter = ConsoleSpanExporter(
        out=spans, formatter=lambda span: span.to_json(indent=None) + "\n"
    )
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    DjangoInstrumentor().instrument()
