"""Names of objects in the bucket, none of which comes from a caller."""

import mimetypes
from uuid import UUID

from app.core.config import settings


def prefix() -> str:
    """Prefix of the names of this service's objects."""
    return f"{settings.ENVIRONMENT}/"


def new_key(object_id: UUID, content_type: str) -> str:
    """Make the name of a new object: its id, and the usual extension of its type."""
    return f"{prefix()}{object_id}{mimetypes.guess_extension(content_type) or ''}"


def object_id_in(key: str) -> UUID | None:
    """The id in an object's name; None for a name that this service cannot have made."""
    if not key.startswith(prefix()):
        return None
    name = key.removeprefix(prefix()).partition(".")[0]
    try:
        found = UUID(name)
    except ValueError:
        return None
    return found if str(found) == name else None
