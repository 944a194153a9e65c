"""Blueprints."""

from typing import Any

from sqlalchemy import JSON
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


class BlueprintInput(SQLModel):
    """What a client sends."""

    options: dict[str, Any] = Field(sa_type=JSONB)
    steps: list[str] = Field(default_factory=list, sa_type=JSONB)
    extra: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    rows: list[Any] | None = Field(default=None, sa_type=JSON)


class Blueprint(BlueprintInput, table=True):
    """A blueprint."""

    id: int | None = Field(default=None, primary_key=True)
