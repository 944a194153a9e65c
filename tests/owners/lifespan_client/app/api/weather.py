"""Routes that ask another service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, cast

import httpx
from fastapi import APIRouter, Depends, FastAPI, Request

from kit.errors import Problem


@asynccontextmanager
async def weather_lifespan(_: FastAPI) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Open one client for all requests."""
    async with httpx.AsyncClient(timeout=5) as client:
        yield {"weather_client": client}


def get_client(request: Request) -> httpx.AsyncClient:
    """Find the client."""
    return cast("httpx.AsyncClient", request.state.weather_client)


ClientDep = Annotated[httpx.AsyncClient, Depends(get_client)]

router = APIRouter(prefix="/weather", tags=["Weather"], lifespan=weather_lifespan)


@router.get("")
async def read_weather(request: Request, client: ClientDep) -> dict[str, int]:
    """Ask the other service, here this one."""
    answer = await client.get(f"{request.base_url}health/live")
    return {"upstream": answer.status_code}


@router.get("/down")
async def read_down(client: ClientDep) -> None:
    """Ask a service that is not there."""
    try:
        await client.get("http://127.0.0.1:9/")
    except httpx.HTTPError as error:
        raise Problem(502, "The weather service does not answer.") from error
