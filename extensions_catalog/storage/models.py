"""The table of objects, and the forms that the API accepts and returns."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import StringConstraints, field_validator
from sqlalchemy import BigInteger, DateTime, Index, func, text
from sqlmodel import Field, SQLModel

from app.extensions.storage.settings import CONTENT_TYPE_PATTERN, storage_settings

# Without characters that would end a header's line, or name a folder where the file is saved.
FileName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029/\\]+$")]
ContentType = Annotated[str, StringConstraints(pattern=CONTENT_TYPE_PATTERN)]


class ObjectState(StrEnum):
    """State of an object. Stored as text, so that a new state needs no migration."""

    PENDING = "pending"
    """May be uploaded; the upload is not completed."""
    STORED = "stored"
    """Uploaded, of the size and type that were declared."""
    REFUSED = "refused"
    """The upload differed from its declaration."""
    MISSING = "missing"
    """It was stored and is no longer in the bucket."""
    DELETED = "deleted"
    """To be deleted from the bucket, and then its row, too."""


UNFINISHED = (ObjectState.PENDING, ObjectState.REFUSED)
"""States that are temporary: the clean-up ends them after the grace period."""


class StorageObject(SQLModel, table=True):
    """A file in the bucket, or one that may be uploaded."""

    __tablename__ = "storage_object"
    __table_args__ = (
        Index(None, "owner_kind", "owner_id", "id"),
        # The rows that the clean-up looks for; most are in another state.
        Index(
            None,
            "created_at",
            postgresql_where=text("state IN ('pending', 'refused', 'deleted')"),
        ),
    )

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    key: str = Field(max_length=200, unique=True, description="Name in the bucket")
    filename: str = Field(max_length=200, description="Name under which it is downloaded")
    content_type: str = Field(max_length=127)
    size: int = Field(sa_type=BigInteger, description="Bytes")
    etag: str | None = Field(default=None, max_length=200, description="Of the uploaded file")
    state: str = Field(default=ObjectState.PENDING, max_length=16, description="One of ObjectState")
    owner_kind: str = Field(max_length=50, description="Kind of the principal that it belongs to")
    owner_id: str = Field(max_length=200, description="Id of the principal within its kind")
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )
    stored_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))

    def __str__(self) -> str:
        return self.filename


class StorageObjectInput(SQLModel):
    """A file, as a caller declares it before its upload."""

    filename: FileName = Field(min_length=1, max_length=200)
    content_type: ContentType = Field(max_length=127)
    size: int = Field(ge=1, description="Bytes.")

    @field_validator("content_type")
    @classmethod
    def _type_is_taken(cls, content_type: str) -> str:
        if content_type not in storage_settings.CONTENT_TYPES:
            raise ValueError(f"has to be one of {', '.join(storage_settings.CONTENT_TYPES)}")
        return content_type

    @field_validator("size")
    @classmethod
    def _size_is_taken(cls, size: int) -> int:
        if size > storage_settings.MAX_BYTES:
            raise ValueError(f"has to be at most {storage_settings.MAX_BYTES} bytes")
        return size


class StorageObjectOutput(SQLModel):
    """An object, as the API returns it."""

    id: UUID
    filename: str
    content_type: str
    size: int
    etag: str | None
    state: ObjectState
    created_at: datetime
    stored_at: datetime | None


class SignedUrl(SQLModel):
    """A signed request to the bucket, which anyone who has it may send."""

    method: str
    url: str
    headers: dict[str, str] = Field(description="Headers to send, unchanged.")
    expires_at: datetime


class StorageObjectUpload(StorageObjectOutput):
    """An object, with its signed upload."""

    upload: SignedUrl


class StorageObjectDownload(StorageObjectOutput):
    """An object, with its signed download while it is stored."""

    download: SignedUrl | None
