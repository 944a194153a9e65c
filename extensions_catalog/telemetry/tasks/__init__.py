"""The worker's part: what begins and ends with each process that runs tasks. It has no task."""

from typing import Any

from celery import signals

from app.extensions.telemetry.process import start_error_reports, start_tracing, stop
from kit.process import this_process

_PREFORK = "celery.concurrency.prefork"


@signals.celeryd_after_setup.connect
def _begin_worker(instance: Any, **_: Any) -> None:
    start_error_reports()
    if instance.pool_cls.__module__ != _PREFORK:
        start_tracing()


@signals.worker_process_init.connect
def _begin_child(**_: Any) -> None:
    if this_process.is_forked:  # the solo pool sends this signal too, in the worker itself
        start_tracing()


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    stop()
