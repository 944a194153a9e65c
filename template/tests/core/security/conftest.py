from collections.abc import Iterator

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, async_sessionmaker
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import database
from app.core.security import api_tokens
from app.core.security.token_uses import TokenUses


@pytest.fixture
def token_sessions(connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Looks tokens up, and writes their uses, inside of the test's transaction."""
    monkeypatch.setattr(
        database,
        "read_session_maker",
        async_sessionmaker(
            connection,
            class_=database.AsyncReadOnlySession,
            expire_on_commit=False,
            autoflush=False,
            join_transaction_mode="create_savepoint",
        ),
    )
    monkeypatch.setattr(
        database,
        "async_session_maker",
        async_sessionmaker(
            connection,
            class_=AsyncSession,
            expire_on_commit=False,
            join_transaction_mode="create_savepoint",
        ),
    )
    # The timer of uses noted here must not write after the test.
    monkeypatch.setattr(api_tokens, "token_uses", TokenUses(seconds=3600))
    api_tokens.forget_known_tokens()
    yield
    api_tokens.forget_known_tokens()
