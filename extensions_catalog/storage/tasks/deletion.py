"""Delete the objects that are marked as deleted, first from the bucket, then their rows."""

import logging
from uuid import UUID

from sqlmodel import col, delete, select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.core.task_context import get_task_id
from app.extensions.storage import bucket
from app.extensions.storage.models import ObjectState, StorageObject
from app.extensions.storage.settings import storage_settings

logger = logging.getLogger(__name__)

BATCH_SIZE = 500
MOST_BATCHES = 100


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.storage.delete_marked")
def delete_marked() -> int:
    """Delete objects whose rows are marked, then those rows; returns their number.

    A row is deleted after its object. Objects that the bucket keeps are left for the next run.
    """
    if storage_settings.missing:
        return 0
    deleted, after = 0, UUID(int=0)
    for _ in range(MOST_BATCHES):
        marked = _marked(after)
        if not marked:
            break
        gone = bucket.delete(list(marked.values()))
        deleted += _delete_rows(gone)
        if len(gone) < len(marked):
            logger.warning("%sthe bucket kept %d objects", get_task_id(), len(marked) - len(gone))
        after = max(marked)
    return deleted


def _marked(after: UUID) -> dict[UUID, str]:
    """Read ids and keys of the next batch."""
    statement = (
        select(StorageObject.id, StorageObject.key)
        .where(col(StorageObject.state) == ObjectState.DELETED, col(StorageObject.id) > after)
        .order_by(col(StorageObject.id))
        .limit(BATCH_SIZE)
    )
    with sync_session_maker() as session:
        return dict(session.exec(statement).all())


def _delete_rows(keys: list[str]) -> int:
    statement = delete(StorageObject).where(
        col(StorageObject.key).in_(keys), col(StorageObject.state) == ObjectState.DELETED
    )
    with sync_session_maker() as session:
        count = session.exec(statement).rowcount
        session.commit()
    return count
