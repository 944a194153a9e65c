"""Discovery of routers: the service's own, and those of enabled extensions."""

from fastapi import APIRouter, Depends

from kit.discovery import import_modules
from kit.extensions import ExtensionError, load_extensions
from kit.http._openapi_tags import extension_prefix
from kit.http._tasks import router as tasks_router
from kit.security import require_principal


def build_api_router(package: str) -> APIRouter:
    """Build the router of everything below `/api`; all of it needs a principal.

    Args:
        package: its modules that define `router` are included, but for `pages`.

    Raises:
        ExtensionError: when an enabled extension has an `api` without a router.
    """
    router = APIRouter(prefix="/api", dependencies=[Depends(require_principal)])
    router.include_router(tasks_router)
    for module in import_modules(package, but=("pages",)):
        if isinstance(getattr(module, "router", None), APIRouter):
            router.include_router(module.router)
    for extension, module in load_extensions("api"):
        if not isinstance(getattr(module, "router", None), APIRouter):
            raise ExtensionError(
                f"extension {extension!r} is broken: {module.__file__} defines no `router`. "
                "Add `router = APIRouter()`."
            )
        router.include_router(module.router, prefix=extension_prefix(extension))
    return router


def build_extension_pages_router() -> APIRouter:
    """Build the router of the extensions' pages: each `page_router`, below `/<name>`."""
    router = APIRouter()
    for extension, module in load_extensions("api"):
        if hasattr(module, "page_router"):
            router.include_router(module.page_router, prefix=extension_prefix(extension))
    return router
