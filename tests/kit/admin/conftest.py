from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from sqlalchemy import create_engine, delete
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool
from sqlmodel import Session

from app.core.config import settings
from app.main import app
from kit.admin._audit import AdminRequest, AuditedSession, current_admin_request
from kit.models import AdminUser, AuditEntry


@pytest.fixture
async def anonymous_client(sync_db_session: Session) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that has never been here, inside the transaction of `sync_db_session`."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


@pytest.fixture
def as_tester() -> Iterator[AdminRequest]:
    """Makes changes on behalf of an administrator, as within a request to the admin."""
    request = AdminRequest(client="203.0.113.9", actor="tester")
    token = current_admin_request.set(request)
    yield request
    current_admin_request.reset(token)


@pytest.fixture
def committing_sessions(test_database: str) -> Iterator[sessionmaker[AuditedSession]]:
    """Sessions with a connection each, for what happens at the same time; cleared afterwards."""
    engine = create_engine(
        settings.SYNC_DATABASE_URL, poolclass=NullPool, connect_args=settings.sync_connect_args
    )
    maker = sessionmaker(engine, class_=AuditedSession, expire_on_commit=False)
    yield maker
    with maker.begin() as session:
        session.execute(delete(AuditEntry))
        session.execute(delete(AdminUser))
    engine.dispose()
