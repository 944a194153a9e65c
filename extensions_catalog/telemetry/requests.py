"""A span for each request that the API serves, and the metric of their duration.

FastAPI's own telemetry, which is on as soon as a provider is set, costs a read a quarter of its
processor time, whether the request is traced or not, and records the query of its URL.
"""

from time import perf_counter
from typing import Any

from fastapi import FastAPI
from opentelemetry import metrics, trace
from opentelemetry.context import Context, detach
from opentelemetry.metrics import Histogram
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.extensions.telemetry.spans import enter, parent_in
from kit.context import root_path
from kit.http import path_template

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Bounds of the histogram. Source:
https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpserverrequestduration
"""
_FIRST_FAILURE = 500


def trace_requests(application: FastAPI) -> None:
    """Trace what the application serves from now on, its whole middleware included."""
    # No public way leads to it once the application is made, which its owner's file does.
    application._telemetry.update({"tracing": False, "metrics": False, "logs": False})  # noqa: SLF001
    stack = application.middleware_stack or application.build_middleware_stack()
    application.middleware_stack = TracingMiddleware(stack)


class TracingMiddleware:
    """Records each request but those of health checks; a WebSocket, which lasts, has no span."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._tracer = trace.get_tracer(__name__)
        self._duration = metrics.get_meter(__name__).create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "http" or _is_probe(scope):
            await self.app(scope, receive, send)
            return
        parent = parent_in({name.decode("latin-1"): value for name, value in scope["headers"]}.get)
        # Never what the task of an earlier request of the connection has left behind.
        parent = Context() if parent is None else parent
        span = self._tracer.start_span(scope["method"], parent, SpanKind.SERVER)
        request = _Request(scope, send, span, self._duration)
        token = enter(span, parent)
        try:
            await self.app(scope, receive, request.send)
        except BaseException as error:
            request.end(error)
            raise
        finally:
            request.end()
            detach(token)


def _is_probe(scope: Scope) -> bool:
    return str(scope["path"]).removeprefix(root_path(scope)).startswith("/health/")


class _Request:
    """A request that is served, until its answer is sent: background tasks continue after it."""

    def __init__(self, scope: Scope, send: Send, span: Span, duration: Histogram) -> None:
        self._scope, self._send, self._span, self._duration = scope, send, span, duration
        self._began = perf_counter()
        self._status = 0
        self._is_over = False

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.end()

    def end(self, failure: BaseException | None = None) -> None:
        """End the span, and record the duration; does nothing when it has ended."""
        if self._is_over:
            return
        self._is_over = True
        known = self._describe(failure)
        self._duration.record(perf_counter() - self._began, known)
        if self._span.is_recording():
            self._span.update_name(
                " ".join(filter(None, (self._scope["method"], known.get("http.route"))))
            )
            self._span.set_attributes({**known, "url.path": self._scope["path"]})
            if "error.type" in known:
                self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def _describe(self, failure: BaseException | None) -> dict[str, Any]:
        """Attributes of both span and metric, so of few values each."""
        known = {"http.request.method": self._scope["method"], "url.scheme": self._scope["scheme"]}
        if isinstance(self._scope.get("route"), Route):
            known["http.route"] = path_template(self._scope)
        if failure or self._status >= _FIRST_FAILURE:
            known["error.type"] = type(failure).__name__ if failure else str(self._status)
        return {**known, "http.response.status_code": self._status} if self._status else known
