"""The ids of the trace and of the span in each log line, as keys `trace_id` and `span_id`."""

import logging
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span


def add_ids_to_log() -> None:
    """Have each record that is made within a span carry the span's ids."""
    make_record = logging.getLogRecordFactory()

    def with_ids(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make_record(*arguments, **options)
        span = get_current_span().get_span_context()
        if span.is_valid:
            record.trace_id = format_trace_id(span.trace_id)
            record.span_id = format_span_id(span.span_id)
        return record

    logging.setLogRecordFactory(with_ids)
