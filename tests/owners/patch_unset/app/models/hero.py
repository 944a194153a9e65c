"""Heroes."""

from sqlmodel import Field, SQLModel


class HeroBase(SQLModel):
    """What a hero has."""

    name: str = Field(index=True, max_length=50)
    age: int | None = Field(default=None, ge=0)
    team: str | None = None


class Hero(HeroBase, table=True):
    """A hero."""

    id: int | None = Field(default=None, primary_key=True)


class HeroCreate(HeroBase):
    """What a client sends."""


class HeroPublic(HeroBase):
    """What a client gets."""

    id: int


class HeroUpdate(SQLModel):
    """What a client may change."""

    model_config = {"extra": "forbid"}

    name: str = Field(default="", max_length=50)
    age: int | None = Field(default=None, ge=0)
    team: str | None = None
