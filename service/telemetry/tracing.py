"""OpenTelemetry traces, an extra: requests by the framework, and here each reconstruction with its
stages.

Without the extra, or with no endpoint configured, every span is a no-op of the API package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from opentelemetry import trace

from service import __version__

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

tracer = trace.get_tracer("service", __version__)


class TracingError(ValueError):
    """Traces are to be exported, but the packages that export them are not installed."""


def configure_tracing(environ: Mapping[str, str] = os.environ) -> bool:
    """Export traces if OpenTelemetry's own variables name an endpoint; returns whether they do.
    Raises TracingError."""
    if not any(environ.get(name) for name in _ENDPOINTS):
        return False
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingError(
            f"an endpoint for traces is set, but {error.name} is missing: install .[telemetry]."
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": "quantvggt"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True
