"""The tasks, called here in the test's transaction."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlmodel import Session

from app.extensions.accounts.models import AccountsProfile
from app.extensions.accounts.settings import AccountsSettings
from app.extensions.accounts.tasks import anonymise_unseen_profiles, retention
from kit.queue import collect_schedules


def make_profile(session: Session, days_unseen: float) -> AccountsProfile:
    profile = AccountsProfile(
        id=uuid4(),
        email="ada@example.com",
        display_name="Ada",
        last_seen_at=datetime.now(UTC) - timedelta(days=days_unseen),
    )
    session.add(profile)
    session.commit()
    return profile


def keep_for(monkeypatch: pytest.MonkeyPatch, days: int | None) -> None:
    settings = AccountsSettings.model_construct(RETENTION_DAYS=days)
    monkeypatch.setattr(retention, "accounts_settings", settings)


def test_no_one_is_anonymised_by_default(
    sync_db_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_for(monkeypatch, None)
    profile = make_profile(sync_db_session, days_unseen=3000)
    assert anonymise_unseen_profiles() == 0
    sync_db_session.refresh(profile)
    assert profile.email == "ada@example.com"


def test_anonymises_only_who_was_not_seen_for_long(
    sync_db_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_for(monkeypatch, 30)
    gone = make_profile(sync_db_session, days_unseen=30.1)
    here = make_profile(sync_db_session, days_unseen=29.9)
    assert anonymise_unseen_profiles() == 1
    sync_db_session.expire_all()
    assert (gone.email, gone.display_name) == (None, None)
    assert (here.email, here.display_name) == ("ada@example.com", "Ada")


def test_twice_is_once(sync_db_session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_for(monkeypatch, 30)
    make_profile(sync_db_session, days_unseen=31)
    assert [anonymise_unseen_profiles(), anonymise_unseen_profiles()] == [1, 0]


def test_comes_back_for_what_is_more_than_a_batch(
    sync_db_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_for(monkeypatch, 30)
    monkeypatch.setattr(retention, "BATCH_SIZE", 2)
    for _ in range(3):
        make_profile(sync_db_session, days_unseen=31)
    assert [anonymise_unseen_profiles() for _ in range(2)] == [3, 0]


def test_beat_sends_it() -> None:
    entry = collect_schedules()["accounts.anonymise-unseen-profiles"]
    assert entry["task"] == anonymise_unseen_profiles.name
