"""The table, whose name begins with the extension's, and what the API takes and gives."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, field_validator
from sqlalchemy import DateTime, func
from sqlmodel import Field, SQLModel

EMAIL_LENGTH = 320


class CurrentUser(BaseModel):
    """The user behind a request, as the verified access token says.

    Source of the claims: https://supabase.com/docs/guides/auth/jwt-fields
    """

    model_config = ConfigDict(frozen=True)

    id: UUID
    email: str | None = Field(
        default=None, max_length=EMAIL_LENGTH, description="None for who signed in without one."
    )
    role: str = Field(min_length=1, description="Of PostgreSQL: `authenticated` for all users.")
    aal: str = Field(default="aal1", description="`aal2` after a second factor.")
    session_id: UUID | None = None
    is_anonymous: bool = Field(default=False, description="Signed in without telling who they are.")
    client_id: str | None = Field(
        default=None, description="The OAuth client that calls on the user's behalf, if one does."
    )

    @field_validator("email", mode="before")
    @classmethod
    def _blank_is_none(cls, value: object) -> object:
        return value or None


class ProfileInput(SQLModel):
    """What users may change of their profile."""

    display_name: str | None = Field(
        default=None, min_length=1, max_length=100, description="What to call the user."
    )


class AccountsProfile(SQLModel, table=True):
    """What this service keeps of a user.

    There is no foreign key to `auth.users`: a database that is not Supabase's has no such table.
    """

    __tablename__ = "accounts_profile"

    id: UUID = Field(primary_key=True, description="The user's id in Supabase Auth")
    email: str | None = Field(
        default=None, max_length=EMAIL_LENGTH, description="As the last access token said"
    )
    display_name: str | None = Field(default=None, max_length=100, description="The user's choice")
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )
    last_seen_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        index=True,
        description="Accurate to about a minute",
        sa_column_kwargs={"server_default": func.now()},
    )

    def __str__(self) -> str:
        return self.display_name or self.email or str(self.id)


class ProfileOutput(ProfileInput):
    """A user's profile, as the API gives it."""

    id: UUID
    email: str | None = None
    created_at: datetime
    last_seen_at: datetime
