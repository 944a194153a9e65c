"""OpenTelemetry's providers of this process, and the instrumentations that feed them."""

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from opentelemetry import metrics, propagate, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.core.config import settings
from app.core.database import engine, sync_engine
from app.extensions.telemetry.export import MetricExporter, SpanExporter
from app.extensions.telemetry.log_ids import add_ids_to_log
from app.extensions.telemetry.queries import trace_queries
from app.extensions.telemetry.settings import telemetry_settings
from app.extensions.telemetry.spans import BeginningSampler
from app.extensions.telemetry.stack_metrics import stack_metrics
from app.extensions.telemetry.task_spans import TaskSpans
from kit.process import client_name, this_process


def start_providers() -> Callable[[], None]:
    """Begin to record in this process; returns what sends the rest and ends it."""
    telemetry_settings.apply_opentelemetry_variables()
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("OTEL_TRACES_SAMPLER_ARG", str(telemetry_settings.SAMPLE_RATIO))
    if "OTEL_PROPAGATORS" not in os.environ:
        # By default what a stranger sends as `baggage` would reach the queue and other services.
        propagate.set_global_textmap(TraceContextTextMapPropagator())
    providers = [*_providers(_resource())]
    _instrument()
    add_ids_to_log()
    TaskSpans().connect()

    def stop() -> None:
        for provider in providers:
            provider.shutdown()

    return stop


_DEFAULTS = {
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    # The stable names of attributes, as `db.query.text`.
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http,database",
}


def _resource() -> Resource:
    """Describe the process; what `OTEL_RESOURCE_ATTRIBUTES` says comes first."""
    service, _, process = client_name(settings, this_process.role).partition(":")
    known = {
        "service.name": service,
        "service.instance.id": process,
        "deployment.environment.name": settings.ENVIRONMENT,
    }
    return Resource.create({**known, **OTELResourceDetector().detect().attributes})


def _providers(resource: Resource) -> Any:
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.sampler = BeginningSampler(tracers.sampler)
    if telemetry_settings.exports("traces"):
        tracers.add_span_processor(BatchSpanProcessor(SpanExporter()))
    # Without a collector of traces too: log lines have their ids.
    trace.set_tracer_provider(tracers)
    yield tracers
    if readers := [*_metric_readers()]:
        meters = MeterProvider(readers, resource, shutdown_on_exit=False)
        stack_metrics.register(meters.get_meter(stack_metrics.__module__))
        metrics.set_meter_provider(meters)
        yield meters


def _metric_readers() -> Iterator[MetricReader]:
    if telemetry_settings.exports("metrics"):
        yield PeriodicExportingMetricReader(MetricExporter())
    if telemetry_settings.serves_prometheus:
        yield PrometheusMetricReader(scope_info_enabled=False)


def _instrument() -> None:
    """Have the clients of servers record spans, in traces that are kept."""
    for each in (engine.sync_engine, sync_engine):
        trace_queries(each)
    RedisInstrumentor().instrument()
    if find_spec("httpx") or find_spec("httpx2"):
        from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor  # noqa: PLC0415

        # Its metrics would count the calls of traces that are kept, no others.
        HTTPXClientInstrumentor().instrument(meter_provider=NoOpMeterProvider())
