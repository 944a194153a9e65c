"""Rows for the tests of tasks and admin."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlmodel import Session

from app.extensions.storage.keys import new_key
from app.extensions.storage.models import ObjectState, StorageObject


def add_object(
    session: Session, *, state: ObjectState = ObjectState.STORED, hours_ago: float = 0
) -> StorageObject:
    """A row as the API writes it; nothing is put into a bucket."""
    object_id = uuid4()
    then = datetime.now(UTC) - timedelta(hours=hours_ago)
    row = StorageObject(
        id=object_id,
        key=new_key(object_id, "application/pdf"),
        filename="report.pdf",
        content_type="application/pdf",
        size=4,
        state=state,
        owner_kind="user",
        owner_id="ada",
        created_at=then,
        stored_at=then if state == ObjectState.STORED else None,
    )
    session.add(row)
    session.commit()
    return row
