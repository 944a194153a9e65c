"""Throwing away messages that are done with."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, select

from app.extensions.messenger.models import Direction, MessageState, MessengerMessage
from app.extensions.messenger.settings import messenger_settings
from app.extensions.messenger.tasks import delete_old_messages
from kit import outbox
from kit.queue import collect_schedules


def add_message(session: Session, state: MessageState, days: float) -> None:
    moment = datetime.now(UTC) - timedelta(days=days)
    message = MessengerMessage(
        direction=Direction.OUT,
        psid="11",
        text=f"{state}-{days}",
        state=state,
        created_at=moment,
    )
    session.add(message)
    session.commit()


def left(session: Session) -> set[str]:
    return {message.text for message in session.exec(select(MessengerMessage))}


def test_what_is_old_and_done_with_goes(sync_db_session: Session) -> None:
    old, new = messenger_settings.KEEP_DAYS + 1, messenger_settings.KEEP_DAYS - 1
    for state in MessageState:
        add_message(sync_db_session, state, old)
        add_message(sync_db_session, state, new)

    assert delete_old_messages() == len(MessageState) - 2

    kept = {f"{state}-{new}" for state in MessageState}
    assert left(sync_db_session) == kept | {f"queued-{old}", f"sending-{old}"}


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_works_in_batches(
    sync_db_session: Session, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    for extra in range(3):
        add_message(sync_db_session, MessageState.SENT, messenger_settings.KEEP_DAYS + 1 + extra)
    monkeypatch.setattr(outbox, "BATCH_SIZE", batch)
    assert delete_old_messages() == 3
    assert left(sync_db_session) == set()


def test_runs_once_a_night() -> None:
    assert collect_schedules()["messenger.delete-old"]["task"] == delete_old_messages.name
