"""The service: composition only, each part is made in the module that owns it."""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from app.api import api_router, extension_pages_router
from app.api.pages import router as pages_router
from app.core.admin import setup_admin
from app.core.api_docs import OPENAPI_URL, setup_api_docs
from app.core.config import BASE_DIR, settings
from app.core.database import engine, sync_engine
from app.core.errors import setup_errors
from app.core.health import router as health_router
from app.core.logging import configure_logging
from app.core.messages import setup_message_handlers
from app.core.middleware import middleware_stack
from app.core.migrations import init_db
from app.core.openapi_tags import setup_openapi
from app.core.process_start import begin_process
from app.core.security import flush_token_uses
from app.core.settings_base import unknown_settings

logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Make database and message handlers ready, and close every connection at the end.

    Raises:
        StartupError: when the service cannot start; its message says what to mend.
    """
    for finding in unknown_settings():
        logger.warning("%s", finding)
    begin_process("api")
    await init_db()
    setup_message_handlers()
    if not settings.is_local:
        # What is there by now stays: the garbage collector need not walk all of it under load. And
        # a request makes thousands of objects that reference counts free without it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000)
    yield
    await flush_token_uses()
    await engine.dispose()
    sync_engine.dispose()


def create_app() -> FastAPI:
    """The application with everything that is enabled.

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
