"""Starlette, and nothing else."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def hello(_: Request) -> JSONResponse:
    """Answer with what `/health/live` answers with."""
    return JSONResponse({"status": "alive"})


app = Starlette(routes=[Route("/hello", hello)])
