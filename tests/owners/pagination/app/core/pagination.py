"""Pages of lists."""

from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field

Item = TypeVar("Item")


class PageQuery(BaseModel, extra="forbid"):
    """What a client asks for."""

    limit: int = Field(100, gt=0, le=100)
    offset: int = Field(0, ge=0)


class Page(BaseModel, Generic[Item]):
    """Items of a list, and how many there are."""

    items: list[Item]
    total: int


PageDep = Annotated[PageQuery, Query()]
