"""The documented places at which the kit finds the service's own objects.

Looked up when they are used, never at import: the modules that make these objects import the kit.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery import Celery
    from fastapi import FastAPI
    from fastapi.templating import Jinja2Templates
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
    from sqlalchemy.orm import sessionmaker
    from sqlmodel import Session
    from sqlmodel.ext.asyncio.session import AsyncSession

PLACES = {
    "application": ("main", "app"),
    "celery_app": ("core.celery", "celery_app"),
    "engine": ("core.database", "engine"),
    "sync_engine": ("core.database", "sync_engine"),
    "async_session_maker": ("core.database", "async_session_maker"),
    "read_session_maker": ("core.database", "read_session_maker"),
    "sync_session_maker": ("core.database", "sync_session_maker"),
    "templates": ("core.templates", "templates"),
    "tag_descriptions": ("core.openapi_tags", "DESCRIPTIONS"),
    "tag_groups": ("core.openapi_tags", "GROUPS"),
}
"""Module in `app/` and name there, of each object below."""


class Service:
    """The service's own modules, and the objects that the kit takes from them."""

    application: "FastAPI"
    celery_app: "Celery"
    engine: "AsyncEngine"
    """asyncpg, for requests."""
    sync_engine: "Engine"
    """psycopg2, for the admin and for tasks."""
    async_session_maker: "async_sessionmaker[AsyncSession]"
    read_session_maker: "async_sessionmaker[AsyncSession]"
    sync_session_maker: "sessionmaker[Session]"
    templates: "Jinja2Templates"
    tag_descriptions: dict[str, str]
    """The service's own tags, in their order."""
    tag_groups: dict[str, list[str]]
    """Groups of the navigation, with their tags."""

    def __getattr__(self, name: str) -> Any:
        """Look an object up at its place."""
        if name not in PLACES:
            raise AttributeError(f"the kit knows no {name!r} of the service")
        module, attribute = PLACES[name]
        return getattr(self.module(module), attribute)

    def module(self, name: str) -> ModuleType:
        """A module of the service, for example `models` for `app.models`."""
        return import_module(f"app.{name}")

    def load(self) -> None:
        """Import the modules that have an effect on import, such as handlers of Celery signals."""
        for name in ("core.celery", "core.admin", "core.database", "core.templates"):
            self.module(name)


service = Service()
