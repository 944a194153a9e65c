"""Crates over the API."""

from http import HTTPStatus

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlmodel import col, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.crate import Crate
from app.tasks.crates import weigh_crates
from kit.messages import call_after_commit

router = APIRouter(prefix="/crates", tags=["Crates"])


class NewCrate(BaseModel):
    """A crate to add."""

    label: str = Field(max_length=20)


@router.post("", status_code=HTTPStatus.CREATED)
async def add_crate(new: NewCrate, session: SessionDep) -> Crate:
    """Add one; it is weighed soon."""
    crate = Crate(label=new.label)
    session.add(crate)
    call_after_commit(session, weigh_crates.delay)
    await session.commit()
    return crate


@router.get("")
async def list_crates(session: ReadSessionDep) -> list[Crate]:
    """The last hundred."""
    return list(await session.exec(select(Crate).order_by(col(Crate.id).desc()).limit(100)))
