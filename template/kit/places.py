"""The documented places at which the kit finds the service's own objects.

Looked up when they are used, never at import: the modules that make these objects import the kit.
"""

# mypy: disable-error-code="no-any-return"

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


class Service:
    """The service's own modules, and the objects that the kit takes from them."""

    def module(self, name: str) -> ModuleType:
        """A module of the service, for example `models` for `app.models`."""
        return import_module(f"app.{name}")

    def load(self) -> None:
        """Import the modules that have an effect on import, such as handlers of Celery signals."""
        for name in ("core.celery", "core.admin", "core.database", "core.templates"):
            self.module(name)

    @property
    def application(self) -> "FastAPI":
        """`app.main.app`."""
        return self._get("main", "app")

    @property
    def celery_app(self) -> "Celery":
        """`app.core.celery.celery_app`."""
        return self._get("core.celery", "celery_app")

    @property
    def engine(self) -> "AsyncEngine":
        """`app.core.database.engine`: asyncpg, for requests."""
        return self._get("core.database", "engine")

    @property
    def sync_engine(self) -> "Engine":
        """`app.core.database.sync_engine`: psycopg2, for the admin and for tasks."""
        return self._get("core.database", "sync_engine")

    @property
    def async_session_maker(self) -> "async_sessionmaker[AsyncSession]":
        """`app.core.database.async_session_maker`."""
        return self._get("core.database", "async_session_maker")

    @property
    def read_session_maker(self) -> "async_sessionmaker[AsyncSession]":
        """`app.core.database.read_session_maker`."""
        return self._get("core.database", "read_session_maker")

    @property
    def sync_session_maker(self) -> "sessionmaker[Session]":
        """`app.core.database.sync_session_maker`."""
        return self._get("core.database", "sync_session_maker")

    @property
    def templates(self) -> "Jinja2Templates":
        """`app.core.templates.templates`."""
        return self._get("core.templates", "templates")

    @property
    def tag_descriptions(self) -> dict[str, str]:
        """`app.core.openapi_tags.DESCRIPTIONS`: the service's own tags, in their order."""
        return self._get("core.openapi_tags", "DESCRIPTIONS")

    @property
    def tag_groups(self) -> dict[str, list[str]]:
        """`app.core.openapi_tags.GROUPS`: groups of the navigation, with their tags."""
        return self._get("core.openapi_tags", "GROUPS")

    def _get(self, module: str, name: str) -> Any:
        return getattr(self.module(module), name)


service = Service()
