"""Names of objects in the bucket. Nothing of them comes from a caller."""

import mimetypes
from uuid import UUID

from app.core.config import settings


def prefix() -> str:
    """What the names of this service's objects begin with."""
    return f"{settings.ENVIRONMENT}/"


def new_key(object_id: UUID, content_type: str) -> str:
    """Name of a new object: its id, and the usual extension of its type."""
    return f"{prefix()}{object_id}{mimetypes.guess_extension(content_type) or ''}"


def object_id_in(key: str) -> UUID | None:
    """The id that an object's name holds; None for what this service cannot have put there."""
    if not key.startswith(prefix()):
        return None
    name = key.removeprefix(prefix()).partition(".")[0]
    try:
        found = UUID(name)
    except ValueError:
        return None
    return found if str(found) == name else None
