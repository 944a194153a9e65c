"""Middleware of the shop."""

import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.types import ASGIApp, Receive, Scope, Send


class TenantMiddleware:
    """Plain ASGI."""

    def __init__(self, app: ASGIApp, tenant: str) -> None:
        self.app = app
        self.tenant = tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the tenant."""
        if scope["type"] == "http":
            scope.setdefault("state", {})["tenant"] = self.tenant
        await self.app(scope, receive, send)


class BreakingMiddleware(BaseHTTPMiddleware):
    """Starlette's base class."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Fail where the client asks for it."""
        if request.headers.get("X-Break") == "bug":
            raise ZeroDivisionError
        if request.headers.get("X-Break") == "http":
            raise HTTPException(429, "Slower, please.")
        return await call_next(request)


async def apologise(_: Request, __: Exception) -> Response:
    """Answer all that nothing else does."""
    return JSONResponse({"message": "We are sorry."}, status_code=500)


def setup_shop_middleware(app: FastAPI) -> None:
    """Add all."""
    app.add_middleware(TenantMiddleware, tenant="acme")
    app.add_middleware(GZipMiddleware, minimum_size=20)
    app.add_middleware(BreakingMiddleware)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["https://shop.example"],
        allow_credentials=True,
        allow_methods=["*"],
    )
    app.add_exception_handler(Exception, apologise)

    @app.middleware("http")
    async def time_request(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        start = time.perf_counter()
        request.state.timed = True
        response = await call_next(request)
        response.headers["X-Process-Time"] = str(time.perf_counter() - start)
        return response
