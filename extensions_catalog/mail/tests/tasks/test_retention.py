"""Throwing away mails that are done with."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, select

from app.extensions.mail.models import MailMessage, MailState
from app.extensions.mail.settings import mail_settings
from app.extensions.mail.tasks import delete_old_mail
from kit import outbox
from kit.queue import collect_schedules


def add_mail(session: Session, state: MailState, days: float) -> None:
    moment = datetime.now(UTC) - timedelta(days=days)
    mail = MailMessage(
        message_id=f"{state}-{days}@example.com",
        template="shop.order-shipped",
        to_address="ada@example.com",
        state=state,
        created_at=moment,
    )
    session.add(mail)
    session.commit()


def left(session: Session) -> set[str]:
    return {mail.message_id.partition("@")[0] for mail in session.exec(select(MailMessage))}


def test_what_is_old_and_done_with_goes(sync_db_session: Session) -> None:
    old, new = mail_settings.KEEP_DAYS + 1, mail_settings.KEEP_DAYS - 1
    for state in MailState:
        add_mail(sync_db_session, state, old)
        add_mail(sync_db_session, state, new)

    assert delete_old_mail() == len(MailState) - 2

    kept = {f"{state}-{new}" for state in MailState}
    assert left(sync_db_session) == kept | {f"queued-{old}", f"sending-{old}"}


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_works_in_batches(
    sync_db_session: Session, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    for extra in range(3):
        add_mail(sync_db_session, MailState.SENT, mail_settings.KEEP_DAYS + 1 + extra)
    monkeypatch.setattr(outbox, "BATCH_SIZE", batch)
    assert delete_old_mail() == 3
    assert left(sync_db_session) == set()


def test_runs_once_a_night() -> None:
    assert collect_schedules()["mail.delete-old"]["task"] == delete_old_mail.name
