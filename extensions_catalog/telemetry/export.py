"""Sending spans and metrics: without secrets and without values, and with one warning an outage."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Status
from opentelemetry.util.types import AttributeValue

from kit.process import mask_secrets

logger = logging.getLogger(__name__)
# These log each attempt and each span that is dropped; `_Outage` logs the outage.
logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
logging.getLogger("opentelemetry.sdk._shared_internal").setLevel(logging.ERROR)


class _Outage:
    """Logs that a collector does not take what it is sent, and that it does again."""

    def __init__(self, signal: str, endpoint: str) -> None:
        self._what = f"{signal} to {urlsplit(endpoint)._replace(query='').geturl()}"
        self._signal = signal
        self._lasts = False

    def note(self, *, failed: bool) -> None:
        """Note what came of one attempt, its retries included."""
        if failed and not self._lasts:
            logger.warning(
                "cannot send %s; they are dropped until it works again. Check OTEL_EXPORTER_OTLP_"
                "ENDPOINT and _HEADERS, or set OTEL_%s_EXPORTER=none",
                self._what,
                self._signal.upper(),
            )
        elif self._lasts and not failed:
            logger.info("sending %s again", self._what)
        self._lasts = failed


class SpanExporter(OTLPSpanExporter):
    """Sends spans to the collector."""

    def __init__(self) -> None:
        super().__init__()
        self._outage = _Outage("traces", self._endpoint)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send some spans; called in a thread of its own."""
        result = super().export([cleaned(span) for span in spans])
        self._outage.note(failed=result is SpanExportResult.FAILURE)
        return result


class MetricExporter(OTLPMetricExporter):
    """Sends metrics to the collector."""

    def __init__(self) -> None:
        super().__init__()
        self._outage = _Outage("metrics", self._endpoint)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **options: Any
    ) -> MetricExportResult:
        """Send all metrics; called in a thread of its own."""
        result = super().export(metrics_data, timeout_millis, **options)
        self._outage.note(failed=result is MetricExportResult.FAILURE)
        return result


def cleaned(span: ReadableSpan) -> ReadableSpan:
    """Copy a span without secrets, values in statements, queries of URLs and stack traces."""
    status = span.status
    return ReadableSpan(
        name=mask_secrets(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_cleaned(span.attributes),
        events=[
            Event(event.name, _cleaned(event.attributes), event.timestamp) for event in span.events
        ],
        links=span.links,
        kind=span.kind,
        status=Status(status.status_code, status.description and _text("", status.description)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _cleaned(attributes: Mapping[str, AttributeValue] | None) -> dict[str, AttributeValue]:
    return {
        name: _value(name, value)
        for name, value in (attributes or {}).items()
        if name not in _LEFT_OUT
    }


def _value(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return _text(name, value)
    return tuple(_value(name, each) for each in value) if isinstance(value, tuple | list) else value


# The log has the stack trace, in lines with the same ids; it may quote rows.
_LEFT_OUT = {"url.query", "exception.stacktrace"}
_STATEMENTS = {"db.query.text", "db.statement"}
_URLS = {"url.full", "http.url", "http.target"}
_LITERAL = re.compile(
    r"\be'(?:[^'\\]|''|\\.)*(?:'|$)|'(?:[^']|'')*(?:'|$)|\$([a-z_]*)\$.*?(?:\$\1\$|$)",
    re.DOTALL | re.IGNORECASE,
)


def _text(name: str, value: str) -> str:
    if name in _STATEMENTS:
        value = _LITERAL.sub("?", value)
    elif name in _URLS:
        value = value.partition("?")[0]
    else:
        value = value.partition("\n")[0]  # PostgreSQL quotes a row from its second line on
    return mask_secrets(value)
