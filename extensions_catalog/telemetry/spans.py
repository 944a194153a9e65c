"""Which spans begin a trace, and the context that a span's work runs in."""

from collections.abc import Callable, Sequence
from contextvars import Token
from typing import Any

from opentelemetry import propagate
from opentelemetry.context import Context, attach, set_value
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes

# A name that the instrumentations of OpenTelemetry look up: `is_instrumentation_enabled`.
_SUPPRESSED = "suppress_instrumentation"

_BEGINNING = (SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CONSUMER)


class BeginningSampler(Sampler):
    """Begins a trace with a request or a task alone; whether it does, another sampler decides.

    A worker asks Redis each second: none of that is a trace.
    """

    def __init__(self, decides: Sampler) -> None:
        self._decides = decides

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide on one span."""
        has_parent = get_current_span(parent_context).get_span_context().is_valid
        if not has_parent and kind not in _BEGINNING:
            return SamplingResult(Decision.DROP)
        return self._decides.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """The name of the sampler."""
        return f"BeginningSampler({self._decides.get_description()})"


def enter(span: Span, parent: Context | None) -> Token[Context]:
    """Make a span the current one; returns the token for `detach`.

    In one that is not recorded, the instrumentations of Redis and of HTTP clients do nothing: only
    traces that are kept pay for their inner spans.
    """
    context = set_span_in_context(span, parent)
    if not span.is_recording():
        context = set_value(_SUPPRESSED, True, context)
    return attach(context)


def parent_in(get: Callable[[str], Any]) -> Context | None:
    """The context that a sender has put into its headers; None where it has sent none."""
    carrier = {}
    for name in propagate.get_global_textmap().fields:
        if value := get(name):
            carrier[name] = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return propagate.extract(carrier) if carrier else None
