"""The kit's tables: administrators, API tokens, the audit trail."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, DateTime, Index, Text, func, text, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

import kit.conventions  # noqa: F401 (names constraints, protects every table)


class AdminRole(StrEnum):
    """What an administrator may do. Stored as text, so that a new role needs no migration."""

    READER = "reader"
    EDITOR = "editor"


class AdminUser(SQLModel, table=True):
    """A person who may log in at /admin."""

    __tablename__ = "admin_user"

    id: int | None = Field(default=None, primary_key=True)
    username: str = Field(max_length=64, unique=True, description="In lower case")
    password_hash: str = Field(
        max_length=255,
        repr=False,
        description="Argon2id",
        sa_column_kwargs={"info": {"sensitive": True}},
    )
    is_active: bool = Field(
        default=True,
        sa_column_kwargs={"server_default": true()},
        description="An inactive account cannot log in; an open session ends at its next request",
    )
    role: str = Field(
        default=AdminRole.EDITOR,
        max_length=16,
        sa_column_kwargs={"server_default": AdminRole.EDITOR.value},
        description="One of AdminRole: a reader sees everything and changes nothing",
    )
    session_version: int = Field(
        default=1,
        sa_column_kwargs={"server_default": text("1")},
        description="Raised to end every open session: new password, log-out, deactivation",
    )
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )
    password_changed_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )
    last_login_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
    )

    def __str__(self) -> str:
        return self.username


class ApiToken(SQLModel, table=True):
    """A client's API token, of which only the SHA-256 is kept.

    SHA-256 without salt is enough here, though not for passwords: a token is 256 random bits, so
    there is nothing to guess, and the hash must be found by an index lookup.
    """

    __tablename__ = "api_token"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(
        max_length=100, unique=True, description="Who uses the token, for example `billing-job`"
    )
    hint: str = Field(
        max_length=12, description="First characters of the token, to recognise it by in logs"
    )
    token_hash: str = Field(
        max_length=64,
        unique=True,
        repr=False,
        description="SHA-256 of the token, in hexadecimal",
        sa_column_kwargs={"info": {"sensitive": True}},
    )
    scopes: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(Text),
        sa_column_kwargs={"server_default": text("'{}'")},
        description="What the token may be used for, for example `orders:read`; `*` for everything",
    )
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )
    expires_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="The token is refused from then on; without it, the token never expires",
    )
    revoked_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="Since when the token is permanently refused",
    )
    last_used_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="Late by a minute at most, for which a process caches a token",
    )

    def __str__(self) -> str:
        return self.name


class AuditAction(StrEnum):
    """Kinds of actions in the audit. Stored as text, so that a new kind needs no migration."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    ACTION = "action"
    LOGIN = "login"
    LOGIN_FAILED = "login-failed"
    LOGOUT = "logout"
    PASSWORD = "password"  # noqa: S105 -- the name of an event


class AuditEntry(SQLModel, table=True):
    """One action in the admin, recorded in the transaction of the change itself.

    It names its subject by table and key, without a foreign key: it outlives its subject.
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
        default="", max_length=64, description="Username; empty when no account is known"
    )
    client: str = Field(
        default="", max_length=64, description="Network address that the request came from"
    )
    subject_type: str = Field(default="", max_length=128, description="Table of the changed row")
    subject_id: str = Field(default="", max_length=255, description="Primary key of that row")
    details: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSONB,
        sa_column_kwargs={"server_default": text("'{}'::jsonb")},
        description='Changed fields as {"name": {"old": …, "new": …}}; no secrets',
    )

    def __str__(self) -> str:
        return f"{self.action} {self.subject_type} {self.subject_id}".strip()
