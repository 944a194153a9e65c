"""The API's part: what begins and ends with each of its processes, and its metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync
from fastapi import APIRouter, FastAPI

from app.extensions.telemetry.api import metrics
from app.extensions.telemetry.process import start_error_reports, start_tracing, stop
from app.extensions.telemetry.settings import telemetry_settings


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Record what the process does, until it ends."""
    start_error_reports()
    following = None
    if start_tracing():
        from app.extensions.telemetry.requests import trace_requests  # noqa: PLC0415
        from app.extensions.telemetry.stack_metrics import stack_metrics  # noqa: PLC0415

        trace_requests(application)
        if telemetry_settings.exports("metrics"):
            following = asyncio.create_task(stack_metrics.follow())
    yield
    if following:
        following.cancel()
    await run_sync(stop)


router = APIRouter(lifespan=lifespan)
router.include_router(metrics.router)
