"""A collector that is down, or does not answer: one warning, and no one waits."""

import time

import pytest

from app.extensions.telemetry.process import STOP_SECONDS
from app.extensions.telemetry.tests.conftest import RunningApi, StartApi
from app.extensions.telemetry.tests.receiver import Receiver
from kit.testing import free_port

pytestmark = pytest.mark.slow

SOON = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1", "OTEL_METRICS_EXPORTER": "none"}


def warnings(api: RunningApi) -> list[str]:
    return [line for line in api.lines if "WARNING" in line or "ERROR" in line]


def test_is_one_warning_and_one_line_when_it_works_again(start_api: StartApi) -> None:
    port = free_port()
    api = start_api(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", **SOON)
    for _ in range(12):  # several times as long as an export is tried
        api.client.get("/nowhere")
        time.sleep(0.5)
    assert len(warnings(api)) == 1
    assert "OTEL_TRACES_EXPORTER=none" in warnings(api)[0]
    with Receiver(port) as receiver:
        api.client.get("/nowhere")
        receiver.wait_for(lambda: any("sending traces" in line for line in api.lines))
    assert len(warnings(api)) == 1


def test_of_any_length_holds_up_neither_requests_nor_the_end(
    start_api: StartApi, receiver: Receiver
) -> None:
    receiver.holds.clear()
    api = start_api(OTEL_BSP_MAX_QUEUE_SIZE="8", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4")
    before = len(receiver.requests)
    api.client.get("/nowhere")
    receiver.wait_for_requests(before + 1)
    began = time.monotonic()
    for _ in range(50):
        api.client.get("/nowhere")
    assert time.monotonic() - began < 5  # not a single one waits for an export's 10 seconds
    took = api.stop()
    receiver.holds.set()
    assert STOP_SECONDS - 1 < took < STOP_SECONDS + 5
    assert not warnings(api)
