"""Views of the extension's table."""

from typing import Any, ClassVar

from sqladmin import ModelView

from app.extensions.storage.models import ObjectState, StorageObject
from kit.admin import DateRangeFilter, EnumFilterBase, short_time


def readable_size(row: Any, _: str) -> str:
    """A column formatter: bytes, kB or MB."""
    if row.size < 1_000:  # noqa: PLR2004
        return f"{row.size} B"
    if row.size < 1_000_000:  # noqa: PLR2004
        return f"{row.size / 1_000:.1f} kB"
    return f"{row.size / 1_000_000:.1f} MB"


class ObjectStateFilter(EnumFilterBase):
    """Filters by the object's state."""

    enum = ObjectState


class StorageObjectAdmin(ModelView, model=StorageObject):
    """Objects of all owners, read-only: only the API changes rows and bucket together."""

    name = "Object"
    icon = "fa-solid fa-file"
    category = "Storage"
    category_icon = "fa-solid fa-box-archive"
    can_create = can_edit = can_delete = False
    can_export = False
    column_list: ClassVar = [
        *("filename", "content_type", "size", "state", "owner_kind", "owner_id", "created_at"),
    ]
    column_details_list: ClassVar = ["id", "key", *column_list, "etag", "stored_at"]
    column_labels: ClassVar = {
        "filename": "File",
        "content_type": "Type",
        "owner_kind": "Owner is",
        "owner_id": "Owner",
        "created_at": "Declared",
        "stored_at": "Stored",
        "etag": "ETag",
    }
    column_searchable_list: ClassVar = ["filename", "owner_id", "key"]
    column_sortable_list: ClassVar = ["filename", "size", "created_at"]
    column_default_sort: ClassVar = ("created_at", True)
    column_filters: ClassVar = [
        ObjectStateFilter(StorageObject.state, title="State"),
        DateRangeFilter(StorageObject.created_at, title="Declared"),
    ]
    column_formatters: ClassVar = {"size": readable_size, "created_at": short_time}
    column_formatters_detail: ClassVar = {**column_formatters, "stored_at": short_time}
