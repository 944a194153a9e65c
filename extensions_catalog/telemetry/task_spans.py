"""A span for each task that is sent and for each one that runs, and the metric of their duration.

Not by OpenTelemetry's instrumentation of Celery: where a task cannot be sent, that one never ends
the span of sending it, keeps it in memory, and makes it the parent of what follows.
"""

from time import perf_counter
from typing import Any

from celery import Task, signals
from opentelemetry import metrics, propagate, trace
from opentelemetry.context import detach
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from app.extensions.telemetry.spans import enter, parent_in

SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 1800)
_STATE = "telemetry"


class TaskSpans:
    """Receives Celery's signals."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer(__name__)
        self._duration = metrics.get_meter(__name__).create_histogram(
            "messaging.process.duration",
            unit="s",
            description="Duration of tasks.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )

    def connect(self) -> None:
        """Receive the signals from now on."""
        for signal, receiver in (
            (signals.before_task_publish, self._send),
            (signals.task_prerun, self._begin),
            (signals.task_failure, self._fail),
            (signals.task_postrun, self._end),
        ):
            signal.connect(receiver, weak=False)

    def _send(self, sender: str, headers: dict[str, Any], **_: Any) -> None:
        known = _describe(sender, headers["id"], "send")
        with self._tracer.start_as_current_span(f"send {sender}", None, SpanKind.PRODUCER, known):
            propagate.inject(headers)

    def _begin(self, task_id: str, task: Task[..., Any], **_: Any) -> None:
        # Without a sender's headers it is run in place, by `apply()`, or sent by beat.
        parent = parent_in(task.request.get)
        known = _describe(task.name, task_id, "process")
        if task.request.retries:
            known["celery.retries"] = task.request.retries
        span = self._tracer.start_span(f"run {task.name}", parent, SpanKind.CONSUMER, known)
        task.request.update({_STATE: (span, enter(span, parent), perf_counter())})

    def _fail(self, sender: Task[..., Any], exception: BaseException, **_: Any) -> None:
        if not isinstance(exception, sender.throws):
            span = get_current_span()
            span.record_exception(exception)
            span.set_status(StatusCode.ERROR, type(exception).__name__)

    def _end(self, task: Task[..., Any], state: str | None = None, **_: Any) -> None:
        span, token, began = task.request.get(_STATE)
        span.set_attribute("celery.state", state or "")
        span.end()
        detach(token)
        self._duration.record(
            perf_counter() - began, {"celery.task": task.name, "celery.state": state or ""}
        )


def _describe(task: str, task_id: str, operation: str) -> dict[str, Any]:
    return {
        "messaging.system": "celery",
        "messaging.operation.name": operation,
        "messaging.message.id": task_id,
        "celery.task": task,
    }
