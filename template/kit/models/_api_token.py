"""Bearer tokens of the clients that call the API."""

from datetime import datetime

from sqlalchemy import DateTime, func
from sqlmodel import Field, SQLModel


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
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )
    expires_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="From then on the token is refused; never when empty",
    )
    revoked_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="Since when the token is refused for good",
    )
    last_used_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="Accurate to about a minute: uses are written in batches",
    )

    def __str__(self) -> str:
        return self.name
