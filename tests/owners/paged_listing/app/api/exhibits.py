"""Routes of exhibits."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import APIRouter, Cookie, Depends, Header, Query
from pydantic import BaseModel, Field
from sqlmodel import col, func, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.exhibit import Exhibit, ExhibitBase

router = APIRouter(prefix="/exhibits", tags=["Exhibits"])

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A part of a list."""

    total: int
    items: Sequence[Item]


class Paging(BaseModel):
    """Which part of a list is wanted."""

    model_config = {"extra": "forbid"}

    limit: int = Field(100, gt=0, le=100)
    offset: int = Field(0, ge=0)
    order_by: Literal["id", "title"] = "id"


class CommonHeaders(BaseModel):
    """Headers that clients send."""

    x_tag: str | None = None


class Cookies(BaseModel):
    """Cookies that browsers send."""

    session_id: str


@router.post("", status_code=201)
async def create_exhibits(new: list[ExhibitBase], session: SessionDep) -> int:
    """Show more."""
    session.add_all([Exhibit.model_validate(exhibit) for exhibit in new])
    await session.commit()
    return len(new)


@router.get("")
async def read_exhibits(
    paging: Annotated[Paging, Query()], session: ReadSessionDep
) -> Page[Exhibit]:
    """Read a page of exhibits."""
    total = (await session.exec(select(func.count()).select_from(Exhibit))).one()
    order = col(getattr(Exhibit, paging.order_by))
    statement = select(Exhibit).order_by(order).offset(paging.offset).limit(paging.limit)
    return Page(total=total, items=(await session.exec(statement)).all())


def seen_by(
    headers: Annotated[CommonHeaders, Header()], cookies: Annotated[Cookies, Cookie()]
) -> dict[str, Any]:
    """What a client says about itself."""
    return {"tag": headers.x_tag, "session_id": cookies.session_id}


@router.get("/seen", response_model_exclude_none=True)
async def read_seen(seen: Annotated[dict[str, Any], Depends(seen_by)]) -> dict[str, Any]:
    """Read what the client sent."""
    return seen
