"""Treatises over the API."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from sqlmodel import SQLModel, col, func, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.treatise import Treatise, TreatiseInput
from kit.errors import Problem

router = APIRouter(prefix="/treatises", tags=["Treatises"])


class TreatiseOutput(SQLModel):
    """A treatise as it is shown."""

    id: int
    title: str
    author: str


async def find_treatise(treatise_id: int, session: SessionDep) -> Treatise:
    """The treatise of the path, unless it is withdrawn."""
    treatise = await session.get(Treatise, treatise_id)
    if treatise is None or treatise.is_withdrawn:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no treatise {treatise_id}.")
    return treatise


TreatiseDep = Annotated[Treatise, Depends(find_treatise)]


@router.post("", status_code=HTTPStatus.CREATED)
async def add_treatise(session: SessionDep, values: TreatiseInput) -> TreatiseOutput:
    """Add a treatise."""
    treatise = Treatise.model_validate(values)
    session.add(treatise)
    await session.commit()
    return TreatiseOutput.model_validate(treatise, from_attributes=True)


@router.get("")
async def search_treatises(
    session: ReadSessionDep,
    words: Annotated[str, Query(min_length=1, max_length=100)],
    author: Annotated[str | None, Query(max_length=80)] = None,
    sort: Literal["rank", "title"] = "rank",
    page: Annotated[int, Query(ge=1, le=1000)] = 1,
    size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[TreatiseOutput]:
    """Search, as in a search engine: `"a phrase"`, `or`, and `-` before a word."""
    query = func.websearch_to_tsquery("english", words)
    statement = select(Treatise).where(
        col(Treatise.words).bool_op("@@")(query), col(Treatise.is_withdrawn).is_(False)
    )
    if author is not None:
        statement = statement.where(Treatise.author == author)
    rank = func.ts_rank(col(Treatise.words), query)
    order = rank.desc() if sort == "rank" else col(Treatise.title)
    statement = statement.order_by(order, col(Treatise.id)).offset((page - 1) * size).limit(size)
    found = await session.exec(statement)
    return [TreatiseOutput.model_validate(treatise, from_attributes=True) for treatise in found]


@router.delete("/{treatise_id}", status_code=HTTPStatus.NO_CONTENT)
async def withdraw_treatise(treatise: TreatiseDep, session: SessionDep) -> None:
    """Withdraw a treatise; its row stays."""
    treatise.is_withdrawn = True
    await session.commit()
