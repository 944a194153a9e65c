"""The people who may log in at /admin."""

from datetime import datetime

from sqlalchemy import DateTime, func, text, true
from sqlmodel import Field, SQLModel


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
        description="Someone inactive cannot log in, and an open session ends at the next request",
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
