"""The metrics of running processes, as Prometheus and a collector get them."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.extensions.telemetry.stack_metrics import POOL_METRICS, STACK_METRICS
from app.extensions.telemetry.tests.conftest import StartApi, StartWorker
from app.extensions.telemetry.tests.receiver import SECONDS, Receiver

pytestmark = pytest.mark.slow

CONDITIONAL = {
    "stack.beat.lock.age",
    "stack.heartbeat.age",
    "stack.redis.memory.limit",
    "stack.outbox.waiting",
    "stack.outbox.overdue",
    "stack.outbox.failed",
}
"""There is no beat, no limit, and an outbox only where something uses it."""


def test_prometheus_gets_those_of_requests_pools_and_the_stack(start_api: StartApi) -> None:
    api = start_api(TELEMETRY_PROMETHEUS="true", OTEL_EXPORTER_OTLP_ENDPOINT="")
    api.client.get("/api/tasks/00000000-0000-0000-0000-000000000000").raise_for_status()
    answer = api.client.get("/api/telemetry/metrics").raise_for_status()
    families = {each.name: each for each in text_string_to_metric_families(answer.text)}
    [count] = [
        each.value
        for each in families["http_server_request_duration_seconds"].samples
        if each.name.endswith("_count") and each.labels["http_route"] == "/api/tasks/{task_id}"
    ]
    assert count == 1
    names = {name.replace(".", "_") for name in (STACK_METRICS.keys() | POOL_METRICS) - CONDITIONAL}
    assert not {name for name in names if not any(each.startswith(name) for each in families)}


def test_a_collector_gets_the_stack_of_the_api_and_pools_of_each_process(
    receiver: Receiver, start_api: StartApi, start_worker: StartWorker
) -> None:
    start_worker()
    start_api()
    wanted = (STACK_METRICS.keys() | POOL_METRICS) - CONDITIONAL
    deadline = time.monotonic() + SECONDS
    while not wanted <= receiver.metrics.keys():
        assert time.monotonic() < deadline, wanted - receiver.metrics.keys()
        time.sleep(0.1)
