"""A span for each statement that SQLAlchemy sends, by its own events.

OpenTelemetry's instrumentation refuses SQLAlchemy 2.1, and those of asyncpg and psycopg2 do not see
the statements that SQLAlchemy has them prepare, or would record them once more.
"""

from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

_SPAN = "telemetry_span"


def trace_queries(engine: Engine) -> None:
    """Record the statements of traces that are kept, without their parameters."""
    tracer = trace.get_tracer(__name__)
    server: dict[str, str | int] = {
        "db.system.name": "postgresql",
        "db.namespace": engine.url.database or "",
        "server.address": engine.url.host or "",
        "server.port": engine.url.port or 5432,
    }

    @event.listens_for(engine, "before_cursor_execute")
    def _begin(connection: Connection, _cursor: object, statement: str, *_: Any) -> None:
        if get_current_span().is_recording():
            operation = statement.split(maxsplit=1)[0].upper() if statement.strip() else ""
            known = {**server, "db.operation.name": operation, "db.query.text": statement}
            name = f"{operation} {engine.url.database}"
            span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=known)
            connection.info[_SPAN] = span

    @event.listens_for(engine, "after_cursor_execute")
    def _end(connection: Connection, *_: Any) -> None:
        if span := _taken(connection):
            span.end()

    @event.listens_for(engine, "handle_error")
    def _fail(context: ExceptionContext) -> None:
        if context.connection is not None and (span := _taken(context.connection)):
            error = context.original_exception
            span.set_attribute("error.type", getattr(error, "pgcode", None) or type(error).__name__)
            span.set_status(StatusCode.ERROR)
            span.end()


def _taken(connection: Connection) -> Span | None:
    # An invalidated connection has no `info` any more.
    return None if connection.invalidated else connection.info.pop(_SPAN, None)
