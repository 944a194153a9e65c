"""Settings of three families, from where each may be set."""

import os
import subprocess
import sys

import pytest

from app.core.config import BASE_DIR, StartupError
from app.extensions.telemetry.settings import TelemetrySettings
from kit.process import mask_secrets
from kit.settings import unknown_settings
from kit.testing import own_database

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without the extension's settings."""
    for name in [*os.environ]:
        if name.startswith(("OTEL_", "SENTRY_", "TELEMETRY_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr("app.extensions.telemetry.settings.dotenv_table", dict)
    monkeypatch.setitem(TelemetrySettings.model_config, "env_file", None)
    return monkeypatch


def exported(environment: pytest.MonkeyPatch, **values: str) -> set[str]:
    for name, value in values.items():
        environment.setenv(name, value)
    loaded = TelemetrySettings.load()
    return {signal for signal in ("traces", "metrics") if loaded.exports(signal)}


@pytest.mark.parametrize(
    ("values", "signals"),
    [
        ({}, set()),
        ({ENDPOINT: ""}, set()),
        ({ENDPOINT: "http://c:4318"}, {"traces", "metrics"}),
        ({ENDPOINT: "http://c:4318", "OTEL_METRICS_EXPORTER": "none"}, {"traces"}),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "true"}, set()),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces"}, {"traces"}),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/v1/metrics"}, {"metrics"}),
    ],
)
def test_what_is_sent(
    environment: pytest.MonkeyPatch, values: dict[str, str], signals: set[str]
) -> None:
    assert exported(environment, **values) == signals


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL .*'http/protobuf'"),
        ("TELEMETRY_SAMPLE_RATIO", "10", "TELEMETRY_SAMPLE_RATIO .*less than or equal to 1"),
    ],
)
def test_wrong_ones_are_refused(
    environment: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(StartupError, match=message):
        TelemetrySettings.load()


def test_those_of_opentelemetry_reach_its_sdk(environment: pytest.MonkeyPatch) -> None:
    in_dotenv = {"OTEL_BSP_SCHEDULE_DELAY": "7", ENDPOINT: "http://file"}
    environment.setattr("app.extensions.telemetry.settings.dotenv_table", lambda: in_dotenv)
    environment.setenv(ENDPOINT, "http://environment")
    environment.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20open-sesame")
    environment.setattr(os, "environ", dict(os.environ))
    TelemetrySettings.load().apply_opentelemetry_variables()
    assert os.environ[ENDPOINT] == "http://environment"
    assert os.environ["OTEL_BSP_SCHEDULE_DELAY"] == "7"
    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" not in os.environ
    assert mask_secrets("sent open-sesame") == "sent ***"


def test_all_of_opentelemetry_may_be_in_dotenv(environment: pytest.MonkeyPatch) -> None:
    names = {"OTEL_BSP_SCHEDULE_DELAY": "7", "SENTRY_DSN": "x", "OTHER_DELAY": "7"}
    environment.setattr("kit.settings._base.dotenv_table", lambda: names)
    assert [finding.partition(" ")[0] for finding in unknown_settings()] == ["OTHER_DELAY"]


@pytest.mark.slow
def test_without_a_receiver_nothing_is_imported(environment: pytest.MonkeyPatch) -> None:
    program = """
import asyncio, sys
import app.core.celery, app.main, app.tasks
from app.extensions.telemetry.tasks import start_tracing, start_error_reports

async def main():
    async with app.main.app.router.lifespan_context(app.main.app):
        pass

start_error_reports()
assert not start_tracing()
asyncio.run(main())
# FastAPI imports OpenTelemetry's API by itself, and redis the metrics of its SDK.
heavy = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.instrumentation")
print([name for name in sys.modules if name.startswith((*heavy, "sentry_sdk"))])
"""
    with own_database() as configured:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=BASE_DIR,
            env={**os.environ, **configured, ENDPOINT: ""},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.strip() == "[]", done.stderr
