"""Deletion of marked objects, from a real bucket."""

import pytest
from sqlmodel import Session, select

from app.extensions.storage.models import ObjectState, StorageObject
from app.extensions.storage.tasks import delete_marked, deletion
from app.extensions.storage.tests.conftest import Bucket
from app.extensions.storage.tests.rows import add_object


def test_without_bucket_nothing_is_done(sync_db_session: Session) -> None:
    add_object(sync_db_session, state=ObjectState.DELETED)
    assert delete_marked() == 0
    assert len(sync_db_session.exec(select(StorageObject)).all()) == 1


def test_a_bucket_that_cannot_be_asked_keeps_the_row(
    sync_db_session: Session, configured: str
) -> None:
    add_object(sync_db_session, state=ObjectState.DELETED)
    with pytest.raises(ConnectionError, match="NoSuchBucket"):
        delete_marked()
    assert len(sync_db_session.exec(select(StorageObject)).all()) == 1


def test_object_and_row_go_in_batches(
    sync_db_session: Session, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "BATCH_SIZE", 2)
    for _ in range(5):
        bucket.put(add_object(sync_db_session, state=ObjectState.DELETED).key)
    never_uploaded = add_object(sync_db_session, state=ObjectState.DELETED)
    kept = add_object(sync_db_session, state=ObjectState.STORED)
    bucket.put(kept.key)
    assert never_uploaded.key not in bucket.keys

    assert delete_marked() == 6

    assert bucket.keys == [kept.key]
    assert sync_db_session.exec(select(StorageObject.id)).all() == [kept.id]
    assert delete_marked() == 0
