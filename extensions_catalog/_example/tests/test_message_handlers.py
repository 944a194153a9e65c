"""The handler of a new note's message."""

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions._example.tasks import count_words
from kit.messages import publish


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ids of the notes for which the task would have been sent."""
    ids: list[int] = []
    monkeypatch.setattr(count_words, "delay", ids.append)
    return ids


async def test_nothing_when_the_note_is_rolled_back(
    db_session: AsyncSession, sent: list[int]
) -> None:
    await publish(db_session, "example.note-created", {"note_id": 1})
    await db_session.rollback()
    assert sent == []


async def test_its_words_are_counted(db_session: AsyncSession, sent: list[int]) -> None:
    await publish(db_session, "example.note-created", {"note_id": 1})
    await db_session.commit()
    assert sent == [1]
