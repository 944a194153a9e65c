"""The metrics of this process and of the stack."""

from anyio import to_thread
from fastapi import APIRouter, Response

from app.extensions.telemetry.settings import telemetry_settings
from kit.errors import Problem
from kit.security import serves
from kit.status import read_status

router = APIRouter(dependencies=[serves(scope="metrics")])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def read_metrics() -> Response:
    """The metrics, in Prometheus's text format.

    What is of the stack (`stack_…`) is the same from each process. The rest is of the process that
    answers, which the label `process` names.
    """
    if not telemetry_settings.serves_prometheus:
        raise Problem(404, "Set TELEMETRY_PROMETHEUS=true: Prometheus is served then.")
    from app.extensions.telemetry.prometheus import (  # noqa: PLC0415 (large)
        CONTENT_TYPE_LATEST,
        metrics_as_text,
    )
    from app.extensions.telemetry.stack_metrics import stack_metrics  # noqa: PLC0415

    stack_metrics.status = await read_status()
    return Response(await to_thread.run_sync(metrics_as_text), media_type=CONTENT_TYPE_LATEST)
