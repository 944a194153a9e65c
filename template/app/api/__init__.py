"""The API: every module of this folder and every extension's `api`, below `/api`.

A module that defines `router` is found by itself. All routes of `api_router` need a principal. Page
routes do not stand below `/api`: core's are in `pages.py`, and what an extension's `api` offers as
`page_router` is found at `/<name>`.
"""

from importlib import import_module
from pathlib import Path

from fastapi import APIRouter, Depends

from app.core.extensions import ExtensionError, load_extensions
from app.core.openapi_tags import extension_prefix
from app.core.security import require_principal

_NOT_IN_API = ("__init__", "pages")


def _build_api_router() -> APIRouter:
    router = APIRouter(prefix="/api", dependencies=[Depends(require_principal)])
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem in _NOT_IN_API:
            continue
        module = import_module(f"{__name__}.{path.stem}")
        if hasattr(module, "router"):
            router.include_router(module.router)
    for extension, module in load_extensions("api"):
        if not isinstance(getattr(module, "router", None), APIRouter):
            raise ExtensionError(
                f"extension {extension!r} is broken: {module.__file__} defines no `router`. "
                "Add `router = APIRouter()`."
            )
        router.include_router(module.router, prefix=extension_prefix(extension))
    return router


def _build_extension_pages_router() -> APIRouter:
    router = APIRouter()
    for extension, module in load_extensions("api"):
        if hasattr(module, "page_router"):
            router.include_router(module.page_router, prefix=extension_prefix(extension))
    return router


api_router = _build_api_router()
extension_pages_router = _build_extension_pages_router()
