"""Essays over the API."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from sqlmodel import SQLModel, col, func, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.essay import Essay, EssayInput
from kit.errors import Problem

router = APIRouter(prefix="/essays", tags=["Essays"])


class EssayOutput(SQLModel):
    """An essay as it is shown."""

    id: int
    title: str
    author: str


async def find_essay(essay_id: int, session: SessionDep) -> Essay:
    """The essay of the path, unless it is withdrawn."""
    essay = await session.get(Essay, essay_id)
    if essay is None or essay.is_withdrawn:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no essay {essay_id}.")
    return essay


EssayDep = Annotated[Essay, Depends(find_essay)]


@router.post("", status_code=HTTPStatus.CREATED)
async def add_essay(session: SessionDep, values: EssayInput) -> EssayOutput:
    """Add an essay."""
    essay = Essay.model_validate(values)
    session.add(essay)
    await session.commit()
    return EssayOutput.model_validate(essay, from_attributes=True)


@router.get("")
async def search_essays(
    session: ReadSessionDep,
    words: Annotated[str, Query(min_length=1, max_length=100)],
    author: Annotated[str | None, Query(max_length=80)] = None,
    sort: Literal["rank", "title"] = "rank",
    page: Annotated[int, Query(ge=1, le=1000)] = 1,
    size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[EssayOutput]:
    """Search, as in a search engine: `"a phrase"`, `or`, and `-` before a word."""
    query = func.websearch_to_tsquery("english", words)
    statement = select(Essay).where(
        col(Essay.words).bool_op("@@")(query), col(Essay.is_withdrawn).is_(False)
    )
    if author is not None:
        statement = statement.where(Essay.author == author)
    order = func.ts_rank(col(Essay.words), query).desc() if sort == "rank" else col(Essay.title)
    statement = statement.order_by(order, col(Essay.id)).offset((page - 1) * size).limit(size)
    found = await session.exec(statement)
    return [EssayOutput.model_validate(essay, from_attributes=True) for essay in found]


@router.delete("/{essay_id}", status_code=HTTPStatus.NO_CONTENT)
async def withdraw_essay(essay: EssayDep, session: SessionDep) -> None:
    """Withdraw an essay; its row stays."""
    essay.is_withdrawn = True
    await session.commit()
