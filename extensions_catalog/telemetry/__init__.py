"""Traces and metrics by OpenTelemetry, errors by Sentry; each off until a setting says where to."""
