"""The nightly clean-up, against a real bucket; each part of it done twice does no more."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlmodel import Session, select

from app.extensions.storage.keys import new_key
from app.extensions.storage.models import ObjectState, StorageObject
from app.extensions.storage.tasks import clean_up, compare_with_bucket, reconciliation
from app.extensions.storage.tests.conftest import Bucket
from app.extensions.storage.tests.rows import add_object
from kit.queue import collect_schedules
from kit.testing import change_settings

pytestmark = pytest.mark.usefixtures("bucket")

LONG_AGO = 25


@pytest.fixture
def staging(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which objects without row are deleted."""
    change_settings(monkeypatch, ENVIRONMENT="staging")


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock such that all objects are older than the grace period."""
    monkeypatch.setattr(
        reconciliation, "_grace_began", lambda: datetime.now(UTC) + timedelta(hours=1)
    )


def states(session: Session) -> list[str]:
    session.expire_all()
    return sorted(row.state for row in session.exec(select(StorageObject)))


class TestUnfinishedUploads:
    @pytest.mark.parametrize(
        "state", [ObjectState.STORED, ObjectState.MISSING], ids=lambda state: state.value
    )
    def test_what_is_finished_stays(self, sync_db_session: Session, state: ObjectState) -> None:
        add_object(sync_db_session, state=state, hours_ago=1000)
        assert clean_up() == 0
        assert states(sync_db_session) == [state]

    def test_what_may_still_be_completed_stays(self, sync_db_session: Session) -> None:
        add_object(sync_db_session, state=ObjectState.PENDING, hours_ago=23)
        assert clean_up() == 0
        assert states(sync_db_session) == [ObjectState.PENDING]

    def test_others_are_marked_in_batches(
        self,
        sync_db_session: Session,
        monkeypatch: pytest.MonkeyPatch,
        sent_tasks: list[tuple[Any, ...]],
    ) -> None:
        monkeypatch.setattr(reconciliation, "BATCH_SIZE", 2)
        for _ in range(3):
            add_object(sync_db_session, state=ObjectState.PENDING, hours_ago=LONG_AGO)
        add_object(sync_db_session, state=ObjectState.REFUSED, hours_ago=LONG_AGO)

        assert clean_up() == 4

        assert states(sync_db_session) == [ObjectState.DELETED] * 4
        assert sent_tasks == [("delete_marked",), ("compare_with_bucket",)]
        assert clean_up() == 0


@pytest.mark.usefixtures("staging")
class TestObjectsWithoutRow:
    def test_new_ones_stay(self, sync_db_session: Session, bucket: Bucket) -> None:
        key = bucket.put(new_key(uuid4(), "application/pdf"))
        assert compare_with_bucket() == 0
        assert bucket.keys == [key]

    @pytest.mark.usefixtures("tomorrow")
    def test_what_this_service_did_not_put_there_stays(
        self, sync_db_session: Session, bucket: Bucket
    ) -> None:
        foreign = ["logo.png", f"production/{uuid4()}.pdf", "staging/notes.txt"]
        for key in foreign:
            bucket.put(key)
        assert compare_with_bucket() == 0
        assert bucket.keys == sorted(foreign)

    @pytest.mark.usefixtures("tomorrow")
    def test_on_a_developers_machine_they_stay(
        self, sync_db_session: Session, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, ENVIRONMENT="local")
        bucket.put(new_key(uuid4(), "application/pdf"))
        assert compare_with_bucket() == 0

    @pytest.mark.usefixtures("tomorrow")
    def test_old_ones_go_and_others_stay(self, sync_db_session: Session, bucket: Bucket) -> None:
        bucket.put(new_key(uuid4(), "application/pdf"))
        kept = [
            bucket.put(add_object(sync_db_session, state=state).key)
            for state in (ObjectState.STORED, ObjectState.PENDING)
        ]
        assert compare_with_bucket() == 1
        assert bucket.keys == sorted(kept)
        assert compare_with_bucket() == 0

    @pytest.mark.usefixtures("tomorrow")
    def test_one_night_deletes_so_many(
        self, sync_db_session: Session, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconciliation, "MOST_UNKNOWN", 2)
        monkeypatch.setattr(reconciliation, "BATCH_SIZE", 2)
        for _ in range(5):
            bucket.put(new_key(uuid4(), "application/pdf"))
        assert compare_with_bucket() == 2
        assert len(bucket.keys) == 3


class TestRowsWithoutObject:
    def test_those_stored_just_now_stay(self, sync_db_session: Session) -> None:
        add_object(sync_db_session, state=ObjectState.STORED)
        assert compare_with_bucket() == 0
        assert states(sync_db_session) == [ObjectState.STORED]

    def test_they_are_marked_wherever_they_are_between_pages(
        self, sync_db_session: Session, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconciliation, "BATCH_SIZE", 3)
        rows = [add_object(sync_db_session, hours_ago=LONG_AGO) for _ in range(20)]
        rows.sort(key=lambda row: row.id)
        gone = {0, 1, 7, 12, 18, 19}
        for number, row in enumerate(rows):
            if number not in gone:
                bucket.put(row.key)

        assert compare_with_bucket() == len(gone)

        sync_db_session.expire_all()
        found = {number for number, row in enumerate(rows) if row.state == ObjectState.MISSING}
        assert found == gone
        assert compare_with_bucket() == 0

    def test_the_next_run_goes_on_where_one_ends(
        self,
        sync_db_session: Session,
        bucket: Bucket,
        monkeypatch: pytest.MonkeyPatch,
        sent_tasks: list[tuple[Any, ...]],
    ) -> None:
        monkeypatch.setattr(reconciliation, "BATCH_SIZE", 2)
        monkeypatch.setattr(reconciliation, "PAGES_PER_RUN", 1)
        rows = [add_object(sync_db_session, hours_ago=LONG_AGO) for _ in range(4)]
        for row in rows[:3]:
            bucket.put(row.key)
        changed = compare_with_bucket()
        while sent_tasks:
            name, *arguments = sent_tasks.pop()
            assert name == "compare_with_bucket"
            changed += compare_with_bucket(*arguments)
        assert changed == 1
        assert states(sync_db_session).count(ObjectState.MISSING) == 1


def test_it_runs_every_night() -> None:
    assert collect_schedules()["storage.clean-up"]["task"] == clean_up.name
