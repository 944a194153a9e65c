"""Helpers for objects: the payload of their messages, and the check of an upload."""

from typing import Any

from app.extensions.storage.bucket import Uploaded
from app.extensions.storage.models import StorageObject

STORED = "storage.object-stored"
DELETED = "storage.object-deleted"


def payload_of(row: StorageObject) -> dict[str, Any]:
    """Payload of both messages about an object."""
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
    """Describe how an upload differs from its declaration; None when it does not."""
    if uploaded.size != row.size:
        return f"{uploaded.size} bytes were uploaded, {row.size} were declared"
    if uploaded.content_type != row.content_type:
        return f"{uploaded.content_type} was uploaded, {row.content_type} was declared"
    return None
