"""The middleware around every request, outermost first."""

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from kit.context import REQUEST_ID_HEADER
from kit.errors import UnhandledErrorMiddleware
from kit.http._access_log import RequestContextMiddleware
from kit.http._failed_start import StartupErrorMiddleware
from kit.settings import settings


def middleware_stack() -> list[Middleware]:
    """What `FastAPI(middleware=…)` takes.

    All are plain ASGI: Starlette's `BaseHTTPMiddleware` would cost a task for each request, and
    would hide a context variable that an endpoint sets.
    """
    return [
        Middleware(StartupErrorMiddleware),
        Middleware(RequestContextMiddleware),
        # Callers show who they are by a bearer token, never by a cookie, so no credentials: with
        # them, any listed origin could act as the browser's user.
        Middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[REQUEST_ID_HEADER, "Retry-After"],
        ),
        Middleware(UnhandledErrorMiddleware),
    ]
