"""The ids of a span in log lines, in both forms."""

import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider

from app.extensions.telemetry.log_ids import add_ids_to_log
from kit.process import JsonFormatter


@pytest.fixture(autouse=True)
def ids() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    add_ids_to_log()
    yield
    logging.setLogRecordFactory(before)


def written(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    logging.getLogger("app.test").warning("here")
    line: dict[str, str] = json.loads(JsonFormatter().format(caplog.records[-1]))
    return line


def test_are_keys_of_a_json_line(caplog: pytest.LogCaptureFixture) -> None:
    with TracerProvider().get_tracer("test").start_as_current_span("x") as span:
        line = written(caplog)
    context = span.get_span_context()
    assert line["trace_id"] == f"{context.trace_id:032x}"
    assert line["span_id"] == f"{context.span_id:016x}"


def test_are_left_out_outside_of_a_span(caplog: pytest.LogCaptureFixture) -> None:
    assert not {"trace_id", "span_id"} & written(caplog).keys()
