"""Telemetry of this process: begun where a setting names a receiver, and ended within seconds."""

import threading
from collections.abc import Callable

from app.extensions.telemetry.settings import telemetry_settings

STOP_SECONDS = 3
"""For what is left to send at the end: a receiver that does not answer holds no process up."""

_stops: list[Callable[[], object]] = []


def start_tracing() -> bool:
    """Begin to record traces and metrics; whether a collector or Prometheus gets them.

    What is not configured is not imported. To be called after a fork, which no thread survives.
    """
    if not (
        telemetry_settings.exports("traces")
        or telemetry_settings.exports("metrics")
        or telemetry_settings.serves_prometheus
    ):
        return False
    from app.extensions.telemetry.providers import start_providers  # noqa: PLC0415

    _stops.append(start_providers())
    return True


def start_error_reports() -> None:
    """Begin to report errors, if a project of Sentry is named; forked processes inherit it."""
    if dsn := telemetry_settings.sentry_dsn:
        from app.extensions.telemetry.errors import start_sentry  # noqa: PLC0415

        _stops.append(start_sentry(dsn.get_secret_value()))


def stop() -> None:
    """Send what is left, for `STOP_SECONDS` at most."""
    threads = [threading.Thread(target=each, daemon=True) for each in _stops]
    _stops.clear()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STOP_SECONDS)
