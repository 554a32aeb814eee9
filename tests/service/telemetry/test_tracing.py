from __future__ import annotations

import builtins
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.telemetry.tracing import TracingError, configure_tracing
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Serve


def test_a_reconstruction_is_a_span_around_its_stages(serve: Serve) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    service = serve()
    service.client.post(
        "/reconstruct", files=form(encode(make_picture())), data={"outputs": "scene.glb"}
    )
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert {"reconstruction", "network", "store", "export"} <= set(spans)
    whole = spans["reconstruction"]
    for name in ("network", "store", "export"):
        parent = spans[name].parent
        assert parent is not None
        assert parent.span_id == whole.context.span_id
    assert whole.attributes is not None
    assert whole.attributes["frames"] == 1


def test_without_an_endpoint_nothing_is_configured() -> None:
    assert configure_tracing({}) is False


def test_an_endpoint_without_the_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry.exporter"):
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TracingError, match=r"install \.\[telemetry\]"):
        configure_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
