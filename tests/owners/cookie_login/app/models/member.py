"""People who sign in with a password of this service."""

from sqlmodel import Field, SQLModel


class Member(SQLModel, table=True):
    """A member."""

    id: int | None = Field(default=None, primary_key=True)
    email: str = Field(max_length=254, unique=True)
    password_hash: str
