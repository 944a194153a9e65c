"""Which spans begin a trace, and what one that is not kept costs and leaves behind."""

import pytest
from opentelemetry import trace
from opentelemetry.context import detach
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import SpanKind, get_current_span

from app.extensions.telemetry.spans import BeginningSampler, enter
from app.extensions.telemetry.task_spans import TaskSpans


def tracer(*, keeps: bool = True) -> trace.Tracer:
    return TracerProvider(BeginningSampler(ALWAYS_ON if keeps else ALWAYS_OFF)).get_tracer("test")


@pytest.mark.parametrize(
    ("kind", "begins"),
    [
        (SpanKind.SERVER, True),
        (SpanKind.CONSUMER, True),
        (SpanKind.PRODUCER, True),  # a task that a WebSocket sends
        (SpanKind.CLIENT, False),
        (SpanKind.INTERNAL, False),
    ],
)
def test_some_begin_a_trace(kind: SpanKind, begins: bool) -> None:
    assert tracer().start_span("x", kind=kind).is_recording() == begins


def test_every_one_continues_a_trace() -> None:
    with tracer().start_as_current_span("request", kind=SpanKind.SERVER):
        assert tracer().start_span("x", kind=SpanKind.CLIENT).is_recording()


@pytest.mark.parametrize("keeps", [True, False])
def test_libraries_record_in_traces_that_are_kept(keeps: bool) -> None:
    token = enter(tracer(keeps=keeps).start_span("request", kind=SpanKind.SERVER), None)
    assert get_current_span().get_span_context().is_valid
    assert is_instrumentation_enabled() == keeps
    detach(token)
    assert is_instrumentation_enabled()


class TestSending:
    @pytest.fixture(autouse=True)
    def recording(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trace, "get_tracer", lambda _: tracer())

    def test_adds_the_trace_to_the_task(self) -> None:
        headers = {"id": "b83caca6"}
        TaskSpans()._send("app.tasks.ping", headers)
        assert headers["traceparent"].split("-")[3] in ("01", "03")  # kept

    def test_that_fails_later_leaves_no_span_behind(self) -> None:
        # Celery sends no signal where Redis does not take the task.
        TaskSpans()._send("app.tasks.ping", {"id": "b83caca6"})
        assert not get_current_span().get_span_context().is_valid
