"""Errors, reported to Sentry: those that API and workers log as such, without personal data.

Both log each error once, so this needs none of Sentry's integrations of frameworks: they would wrap
each request, and the one of Celery sees no task of a solo worker.
"""

import json
from collections.abc import Callable
from typing import Any, cast

import sentry_sdk
from celery import current_task
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.types import Event, Hint

from app.core.config import settings
from app.extensions.telemetry.settings import telemetry_settings
from kit.context import get_request_id, get_task_id
from kit.process import mask_secrets


def start_sentry(dsn: str) -> Callable[[], None]:
    """Begin to report errors; returns what sends the rest and ends it."""
    sentry_sdk.init(
        dsn=dsn,
        release=telemetry_settings.sentry_release,
        environment=settings.ENVIRONMENT,
        before_send=_clean,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[LoggingIntegration(level=None), DedupeIntegration(), ExcepthookIntegration()],
        send_default_pii=False,
        include_local_variables=False,
        max_breadcrumbs=0,
        auto_session_tracking=False,
    )
    return sentry_sdk.get_client().close


def _clean(event: Event, _hint: Hint) -> Event:
    """Leave out what callers sent and rows hold, mask secrets, and add the ids of log lines."""
    cleaned = cast("dict[str, Any]", event)
    cleaned.pop("extra", None)  # such as a task's arguments
    entry, exceptions = cleaned.pop("logentry", {}), cleaned.get("exception", {}).get("values", ())
    if entry:
        # The exception says what the formatted message repeats of it.
        names = ("message",) if exceptions else ("message", "formatted")
        cleaned["logentry"] = {name: _first_line(entry.get(name)) for name in names}
    for exception in exceptions:
        exception["value"] = _first_line(exception.get("value"))
    span = get_current_span().get_span_context()
    if span.is_valid:
        ids = {"trace_id": format_trace_id(span.trace_id), "span_id": format_span_id(span.span_id)}
        cleaned["contexts"] = {**cleaned.get("contexts", {}), "trace": ids}
    tags = {
        "request_id": get_request_id(),
        "task": getattr(current_task, "name", ""),
        "task_id": get_task_id().strip("[] "),
    }
    cleaned["tags"] = {name: value for name, value in tags.items() if value}
    masked: Event = json.loads(mask_secrets(json.dumps(cleaned, default=str)))
    return masked


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]  # PostgreSQL quotes a row from its second line on
