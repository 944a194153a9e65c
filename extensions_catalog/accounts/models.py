"""The table, named after the extension, and the forms that the API accepts and returns."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, field_validator
from sqlalchemy import DateTime, func
from sqlmodel import Field, SQLModel

EMAIL_LENGTH = 320


class CurrentUser(BaseModel):
    """The user behind a request, from the claims of the verified access token.

    Source of the claims: https://supabase.com/docs/guides/auth/jwt-fields
    """

    model_config = ConfigDict(frozen=True)

    id: UUID
    email: str | None = Field(
        default=None, max_length=EMAIL_LENGTH, description="None for a sign-in without address."
    )
    role: str = Field(min_length=1, description="Of PostgreSQL: `authenticated` for all users.")
    aal: str = Field(default="aal1", description="`aal2` after a second factor.")
    session_id: UUID | None = None
    is_anonymous: bool = Field(default=False, description="Signed in without an identity.")
    client_id: str | None = Field(
        default=None, description="The OAuth client that calls on the user's behalf, if one does."
    )

    @field_validator("email", mode="before")
    @classmethod
    def _blank_is_none(cls, value: object) -> object:
        return value or None


class ProfileInput(SQLModel):
    """The fields of a profile that its user may change."""

    display_name: str | None = Field(
        default=None, min_length=1, max_length=100, description="The user's name as others see it."
    )


class AccountsProfile(SQLModel, table=True):
    """The profile of a user in this service.

    There is no foreign key to `auth.users`: a database that is not Supabase's has no such table.
    """

    __tablename__ = "accounts_profile"

    id: UUID = Field(primary_key=True, description="The user's id in Supabase Auth")
    email: str | None = Field(
        default=None, max_length=EMAIL_LENGTH, description="As in the last access token"
    )
    display_name: str | None = Field(default=None, max_length=100, description="Chosen by the user")
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
    """A user's profile, as the API returns it."""

    id: UUID
    email: str | None = None
    created_at: datetime
    last_seen_at: datetime
