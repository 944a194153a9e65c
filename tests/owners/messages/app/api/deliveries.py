"""Deliveries over the API."""

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import APIRouter
from pydantic import BaseModel
from sqlmodel import col, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.delivery import Delivery, DeliveryNote
from kit.errors import Problem
from kit.messages import publish

router = APIRouter(prefix="/deliveries", tags=["Deliveries"])


class NewDelivery(BaseModel):
    """Where it goes."""

    street: str


class Notes(BaseModel):
    """What was noted so far."""

    notes: list[str]


@router.post("", status_code=HTTPStatus.CREATED)
async def send_delivery(new: NewDelivery, session: SessionDep) -> Notes:
    """Send one."""
    session.add(Delivery(street=new.street))
    await publish(session, "delivery.sent", {"street": new.street})
    if new.street == "Nowhere":
        raise Problem(HTTPStatus.CONFLICT, "There is no such street.")
    await session.commit()
    statement = select(DeliveryNote.text).where(col(DeliveryNote.text).startswith(new.street))
    return Notes(notes=list(await session.exec(statement)))


@router.get("/notes")
async def read_notes(session: ReadSessionDep) -> Sequence[str]:
    """All notes."""
    return (await session.exec(select(DeliveryNote.text))).all()
