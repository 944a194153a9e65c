"""Who did what in the admin, and when."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, DateTime, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


class AuditAction(StrEnum):
    """What was done. Stored as text, so that a new kind needs no migration."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    ACTION = "action"
    LOGIN = "login"
    LOGIN_FAILED = "login-failed"
    LOGOUT = "logout"
    PASSWORD = "password"  # noqa: S105 -- the name of an event


class AuditEntry(SQLModel, table=True):
    """One thing that somebody did in the admin, written in the transaction of the change itself.

    It names its subject by table and key, without a foreign key: it outlives what it tells of.
    """

    __tablename__ = "audit_entry"
    # Log-in throttling counts the failures of the last minutes.
    __table_args__ = (Index(None, "action", "occurred_at"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    occurred_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )
    action: str = Field(max_length=32, description="One of AuditAction")
    actor: str = Field(
        default="", max_length=64, description="Username; empty when nobody is known"
    )
    client: str = Field(
        default="", max_length=64, description="Network address that the request came from"
    )
    subject_type: str = Field(default="", max_length=128, description="Table of what was changed")
    subject_id: str = Field(default="", max_length=255, description="Its primary key")
    details: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": text("'{}'::jsonb")},
        description='Changed fields as {"name": {"old": …, "new": …}}; no secrets',
    )

    def __str__(self) -> str:
        return f"{self.action} {self.subject_type} {self.subject_id}".strip()
