"""The service: composition only; each part is made in the module that owns it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from app.api import api_router, extension_pages_router
from app.api.pages import router as pages_router
from app.core.admin import setup_admin
from app.core.config import BASE_DIR, settings
from kit.errors import setup_errors
from kit.http import (
    OPENAPI_URL,
    health_router,
    middleware_stack,
    setup_api_docs,
    setup_openapi,
)
from kit.lifespan import kit_lifespan
from kit.process import configure_logging


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Start and stop the service: the kit's steps, and within them your own.

    Raises:
        StartupError: when the service cannot start; its message says what to fix.
    """
    async with kit_lifespan():
        yield


def create_app() -> FastAPI:
    """Make the application, with all enabled extensions.

    Raises:
        StartupError: when a setting or an enabled extension is broken.
    """
    configure_logging()
    app = FastAPI(
        title=settings.PROJECT_NAME,
        description=settings.PROJECT_DESCRIPTION,
        lifespan=lifespan,
        middleware=middleware_stack(),
        openapi_url=OPENAPI_URL,
        docs_url=None,
        redoc_url=None,
        # FastAPI's own would record the query of a URL; the extension `telemetry` does not.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    setup_errors(app)
    setup_openapi(app)
    setup_api_docs(app)
    app.include_router(health_router)
    app.include_router(api_router)
    app.include_router(pages_router)
    app.include_router(extension_pages_router)
    app.mount("/static", StaticFiles(directory=BASE_DIR / "static"), name="static")
    setup_admin(app)
    return app


app = create_app()
