"""The extension's settings: `TELEMETRY_…`, and some that OpenTelemetry and Sentry have named."""

import os
from collections.abc import Mapping
from typing import ClassVar, Literal
from urllib.parse import unquote

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from app.core.config import ServiceSettings
from kit.process import this_process
from kit.settings import dotenv_table, environment_table, known_secrets

Signal = Literal["traces", "metrics"]


class TelemetrySettings(ServiceSettings):
    """The settings of the extension."""

    model_config = SettingsConfigDict(env_prefix="TELEMETRY_")

    foreign_prefixes: ClassVar[tuple[str, ...]] = ("OTEL_",)

    SAMPLE_RATIO: float = Field(
        0.1, ge=0, le=1, description="Share of requests and tasks that are traced: 0.1 is a tenth."
    )
    PROMETHEUS: bool = Field(
        False, description="Serve the API's metrics to Prometheus, at /api/telemetry/metrics."
    )
    otlp_endpoint: str | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="Address of the collector, as https://otlp.example.com; unset, none is used.",
    )
    otlp_headers: SecretStr | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_HEADERS",
        description="Headers that the collector requires, as Authorization=Basic%20abc.",
    )
    otlp_protocol: Literal["http/protobuf"] = Field(
        "http/protobuf",
        validation_alias="OTEL_EXPORTER_OTLP_PROTOCOL",
        description="Protocol of the collector: http/protobuf, not grpc.",
    )
    service_name: str | None = Field(
        None,
        validation_alias="OTEL_SERVICE_NAME",
        description="Name of the service in traces; unset, PROJECT_NAME in lower case.",
    )
    sentry_dsn: SecretStr | None = Field(
        None,
        validation_alias="SENTRY_DSN",
        description="Client key (DSN) of the Sentry project; unset, no error is reported.",
    )
    sentry_release: str | None = Field(
        None,
        validation_alias="SENTRY_RELEASE",
        description="Release that errors belong to; unset, the commit where Sentry finds it.",
    )

    def exports(self, signal: Signal) -> bool:
        """Whether a collector is named for traces, or for metrics."""
        variables = self.opentelemetry_variables()
        names = ("ENDPOINT", f"{signal.upper()}_ENDPOINT")
        return (
            any(f"OTEL_EXPORTER_OTLP_{name}" in variables for name in names)
            and variables.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp") != "none"
            and variables.get("OTEL_SDK_DISABLED", "").lower() != "true"
        )

    @property
    def serves_prometheus(self) -> bool:
        """Whether this process serves its metrics: of all processes, the API's alone do."""
        return self.PROMETHEUS and this_process.role == "api"

    @property
    def metric_export_seconds(self) -> float:
        """Seconds between two exports of metrics; OpenTelemetry's own default is a minute."""
        milliseconds = self.opentelemetry_variables().get("OTEL_METRIC_EXPORT_INTERVAL", "")
        return int(milliseconds) / 1000 if milliseconds.isdecimal() else 60

    def opentelemetry_variables(self) -> Mapping[str, str]:
        """The variables of OpenTelemetry, wherever they are set; blank ones are left out."""
        declared = {
            str(field.validation_alias): getattr(value, "get_secret_value", lambda: value)()
            for name, field in type(self).model_fields.items()
            if (value := getattr(self, name)) is not None
        }
        every = {**declared, **dotenv_table(), **environment_table()}
        return {name: str(value) for name, value in every.items() if name.startswith("OTEL_")}

    def apply_opentelemetry_variables(self) -> None:
        """Set the variables in the environment, where alone OpenTelemetry's SDK looks for them."""
        variables = self.opentelemetry_variables()
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            del os.environ[name]  # a blank one counts as set there
        os.environ.update(variables)
        for name, value in variables.items():
            if name.endswith("_HEADERS"):
                known_secrets.update(unquote(value).replace("=", " ").replace(",", " ").split())


telemetry_settings = TelemetrySettings.load()
