"""The nightly clean-up: incomplete uploads, objects without row, rows without object."""

import logging
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlmodel import col, select, update

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.core.task_context import get_task_id
from app.extensions.storage import bucket
from app.extensions.storage.keys import object_id_in, prefix
from app.extensions.storage.models import UNFINISHED, ObjectState, StorageObject
from app.extensions.storage.settings import storage_settings
from app.extensions.storage.tasks.deletion import delete_marked

logger = logging.getLogger(__name__)

BATCH_SIZE = 500
MOST_BATCHES = 100
PAGES_PER_RUN = 20
MOST_UNKNOWN = 1_000
"""Objects without row that one night deletes at most: if the database is wrong, one can notice."""

LAST_ID = UUID(int=2**128 - 1)


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.storage.clean_up")
def clean_up() -> int:
    """Mark incomplete uploads for deletion, and start the other tasks; returns their number."""
    if storage_settings.missing:
        return 0
    marked = 0
    for _ in range(MOST_BATCHES):
        count = _mark_unfinished()
        marked += count
        if count < BATCH_SIZE:
            break
    delete_marked.delay()
    compare_with_bucket.delay()
    return marked


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.storage.compare_with_bucket")
def compare_with_bucket(after: str = "", unknown: int = 0) -> int:
    """Delete old objects without row, mark rows without object; returns the number of changes.

    It handles some pages of the bucket; the next ones are for another run.

    Args:
        after: The key after which to continue.
        unknown: How many objects without row this night has deleted before.
    """
    if storage_settings.missing:
        return 0
    changed = 0
    for _ in range(PAGES_PER_RUN):
        page = bucket.list_page(prefix(), after, BATCH_SIZE)
        is_last = len(page) < BATCH_SIZE
        deleted = _delete_unknown(page, MOST_UNKNOWN - unknown)
        unknown += deleted
        # The bucket lists keys in the order in which the database has the ids in them.
        end = LAST_ID if is_last else object_id_in(page[-1].key)
        changed += deleted + _mark_missing(page, object_id_in(after), end)
        if is_last:
            return changed
        after = page[-1].key
    compare_with_bucket.delay(after, unknown)
    return changed


def _mark_unfinished() -> int:
    """Mark a batch of rows whose upload was not completed in time."""
    old = (
        select(StorageObject.id)
        .where(
            col(StorageObject.state).in_(UNFINISHED),
            col(StorageObject.created_at) < _grace_began(),
        )
        .limit(BATCH_SIZE)
        .with_for_update(skip_locked=True)
    )
    with sync_session_maker() as session:
        ids = session.exec(old).all()
        session.exec(
            update(StorageObject)
            .where(col(StorageObject.id).in_(ids))
            .values(state=ObjectState.DELETED)
        )
        session.commit()
    return len(ids)


def _delete_unknown(page: Collection[bucket.Listed], most: int) -> int:
    """Delete old objects that have no row, up to `most`.

    Not on developers' machines: two that share a bucket do not share a database.
    """
    if settings.is_local:
        return 0
    ids = {
        object_id: each.key
        for each in page
        if each.modified_at < _grace_began() and (object_id := object_id_in(each.key))
    }
    with sync_session_maker() as session:
        statement = select(StorageObject.id).where(col(StorageObject.id).in_(ids))
        known = set(session.exec(statement).all())
    unknown = [key for object_id, key in ids.items() if object_id not in known]
    if len(unknown) > most:
        logger.warning("%smore than %d objects have no row", get_task_id(), MOST_UNKNOWN)
    return len(bucket.delete(unknown[: max(most, 0)]))


def _mark_missing(page: Collection[bucket.Listed], after: UUID | None, end: UUID | None) -> int:
    """Mark rows between two ids whose object is neither on the page nor elsewhere in the bucket."""
    there = {each.key for each in page}
    key_of_row = (
        select(StorageObject.id, StorageObject.key)
        .where(
            col(StorageObject.state) == ObjectState.STORED,
            col(StorageObject.stored_at) < _grace_began(),
            col(StorageObject.key).startswith(prefix(), autoescape=True),
            col(StorageObject.id) > (after or UUID(int=0)),
            col(StorageObject.id) <= (end or LAST_ID),
        )
        .order_by(col(StorageObject.id))
    )
    with sync_session_maker() as session:
        rows = session.exec(key_of_row.limit(BATCH_SIZE * 4)).all()
    missing = [row_id for row_id, key in rows if key not in there and bucket.find(key) is None]
    if not missing:
        return 0
    with sync_session_maker() as session:
        count = session.exec(
            update(StorageObject)
            .where(
                col(StorageObject.id).in_(missing),
                col(StorageObject.state) == ObjectState.STORED,
            )
            .values(state=ObjectState.MISSING)
        ).rowcount
        session.commit()
    logger.warning("%s%d stored objects are not in the bucket", get_task_id(), count)
    return count


def _grace_began() -> datetime:
    return datetime.now(UTC) - timedelta(hours=storage_settings.GRACE_HOURS)
