"""The metrics of this process in Prometheus's format."""

from collections.abc import Iterator
from typing import cast

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Metric,
    generate_latest,
)

from app.core.config import settings
from kit.process import client_name, this_process

__all__ = ["CONTENT_TYPE_LATEST", "metrics_as_text"]


def metrics_as_text() -> bytes:
    """All metrics; takes some milliseconds."""
    return generate_latest(cast("CollectorRegistry", _NamedProcess()))


class _NamedProcess:
    """The registry with the process's name as a label: of several, each answers in its turn."""

    def collect(self) -> Iterator[Metric]:
        labels = {"process": client_name(settings, this_process.role)}
        for metric in REGISTRY.collect():
            if not metric.name.startswith("stack_"):
                metric.samples = [
                    each._replace(labels=each.labels | labels) for each in metric.samples
                ]
            yield metric
