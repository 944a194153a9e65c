from collections.abc import Callable, Iterator

import pytest
from httpx import AsyncClient
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client.parser import text_string_to_metric_families

from app.core.config import settings
from app.extensions.telemetry.settings import telemetry_settings
from app.extensions.telemetry.stack_metrics import stack_metrics
from kit.process import this_process
from kit.queue import ping, read_redis_status
from kit.security import PROGRAMS, Principal
from kit.status import read_status
from kit.testing import change_settings

METRICS = "/api/telemetry/metrics"


@pytest.fixture(autouse=True)
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[MeterProvider]:
    """The instruments, as a process has them that serves Prometheus."""
    change_settings(monkeypatch, telemetry_settings, PROMETHEUS=True)
    monkeypatch.setattr(this_process, "role", "api")
    provider = MeterProvider(metric_readers=[PrometheusMetricReader(scope_info_enabled=False)])
    stack_metrics.register(provider.get_meter("tests"))
    yield provider
    provider.shutdown()


def at(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


async def samples(client: AsyncClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Each value, by its name and labels but for the process."""
    answer = await client.get(METRICS)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (each.name, at(**{k: v for k, v in each.labels.items() if k != "process"})): each.value
        for family in text_string_to_metric_families(answer.text)
        for each in family.samples
    }


class TestWhoReadsThem:
    @pytest.mark.parametrize(("scope", "status"), [("metrics", 200), ("api", 403)])
    async def test_a_program_with_the_scope(
        self, client: AsyncClient, call_as: Callable[..., None], scope: str, status: int
    ) -> None:
        call_as(Principal(PROGRAMS, "1", "prometheus", scopes=frozenset({scope})))
        assert (await client.get(METRICS)).status_code == status

    async def test_no_one_where_no_setting_says_so(
        self, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, telemetry_settings, PROMETHEUS=False)
        answer = await client.get(METRICS)
        assert answer.status_code == 404
        assert "TELEMETRY_PROMETHEUS=true" in answer.json()["detail"]

    async def test_no_one_without_a_token(
        self, client: AsyncClient, call_as: Callable[..., None]
    ) -> None:
        call_as(None)
        assert (await client.get(METRICS)).status_code == 401


async def test_their_values_are_those_of_the_service(client: AsyncClient) -> None:
    ping.apply_async(("waits",), queue="metrics")
    queues = {each.name for each in read_redis_status().queues}
    await read_status(max_age=0)
    found = await samples(client)
    assert found["stack_up", at(server="redis")] == 1
    assert found["stack_up", at(server="postgresql")] == 1
    assert {
        dict(labels)["queue"] for name, labels in found if name == "stack_queue_waiting"
    } == queues
    assert found["stack_connections_limit", at(server="redis")] == settings.REDIS_CONNECTION_LIMIT
    assert found["stack_migrations_missing", at()] == 0
    assert found["pool_waits_total", at(pool="asyncpg")] >= 0


async def test_names_have_their_units(client: AsyncClient) -> None:
    names = {name for name, _ in await samples(client)}
    assert {
        "stack_queue_oldest_age_seconds",
        "stack_redis_memory_used_bytes",
        "stack_redis_operations_per_second",
        "stack_tasks_redelivered_total",
        "pool_wait_time_seconds_total",
        "process_resident_memory_bytes",
    } <= names


async def test_what_is_of_one_process_names_it(client: AsyncClient) -> None:
    answer = await client.get(METRICS)
    for family in text_string_to_metric_families(answer.text):
        for each in family.samples:
            assert ("process" in each.labels) is not each.name.startswith("stack_"), each.name
