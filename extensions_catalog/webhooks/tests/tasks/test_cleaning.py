"""Old deliveries."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session

from app.extensions.webhooks.models import DeliveryState
from app.extensions.webhooks.settings import webhooks_settings
from app.extensions.webhooks.tasks import delete_old_deliveries
from app.extensions.webhooks.tests.rows import a_delivery, a_subscription, add, deliveries
from kit import outbox
from kit.queue import collect_schedules
from kit.testing import change_settings


def test_what_has_ended_long_ago_goes_and_nothing_else(
    sync_db_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH_SIZE", 2)
    subscription = a_subscription()
    add(sync_db_session, subscription)
    now = datetime.now(UTC)
    old, recent = now - timedelta(days=30, minutes=1), now - timedelta(days=29)
    ended = [DeliveryState.DELIVERED, DeliveryState.DEAD]
    gone = [a_delivery(subscription, state=state, created_at=old) for state in ended * 3]
    kept = [
        a_delivery(subscription, created_at=old),
        *(a_delivery(subscription, state=state, created_at=recent) for state in ended),
    ]
    add(sync_db_session, *gone, *kept)
    assert delete_old_deliveries() == 6
    assert [each.id for each in deliveries(sync_db_session)] == [each.id for each in kept]
    assert delete_old_deliveries() == 0


def test_one_run_deletes_a_bounded_number(
    sync_db_session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "BATCH_SIZE", 1)
    monkeypatch.setattr(outbox, "MOST_BATCHES", 2)
    change_settings(monkeypatch, webhooks_settings, KEEP_DAYS=1)
    subscription = a_subscription()
    add(sync_db_session, subscription)
    old = datetime.now(UTC) - timedelta(days=2)
    rows = [a_delivery(subscription, state=DeliveryState.DEAD, created_at=old) for _ in "123"]
    add(sync_db_session, *rows)
    assert delete_old_deliveries() == 2
    assert [each.id for each in deliveries(sync_db_session)] == [rows[2].id]


def test_beat_has_it_done_every_night() -> None:
    entry = collect_schedules()["webhooks.delete-old-deliveries"]
    assert entry["task"] == delete_old_deliveries.name
