"""What may become of a row, and what the other parts of the service are told of it."""

from typing import Any

from app.extensions.storage.bucket import Uploaded
from app.extensions.storage.models import StorageObject

STORED = "storage.object-stored"
DELETED = "storage.object-deleted"


def payload_of(row: StorageObject) -> dict[str, Any]:
    """What both messages say of an object."""
    return {
        "object_id": str(row.id),
        "key": row.key,
        "filename": row.filename,
        "content_type": row.content_type,
        "size": row.size,
        "owner_kind": row.owner_kind,
        "owner_id": row.owner_id,
    }


def mismatch(row: StorageObject, uploaded: Uploaded) -> str | None:
    """How an upload differs from what was declared; None when it does not."""
    if uploaded.size != row.size:
        return f"{uploaded.size} bytes were uploaded, {row.size} were declared"
    if uploaded.content_type != row.content_type:
        return f"{uploaded.content_type} was uploaded, {row.content_type} was declared"
    return None
