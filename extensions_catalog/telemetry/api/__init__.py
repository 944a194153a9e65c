"""The API's part: what begins and ends with each of its processes. It has no route of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync
from fastapi import APIRouter, FastAPI

from app.extensions.telemetry.process import start_error_reports, start_tracing, stop


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Record what the process does, until it ends."""
    start_error_reports()
    if start_tracing():
        from app.extensions.telemetry.requests import trace_requests  # noqa: PLC0415

        trace_requests(application)
    yield
    await run_sync(stop)


router = APIRouter(lifespan=lifespan)
