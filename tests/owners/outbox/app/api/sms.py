"""Short messages over the API."""

from http import HTTPStatus

from fastapi import APIRouter
from pydantic import BaseModel
from sqlmodel import col, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.sms import Sms
from app.tasks.sms import send_due_sms
from kit.messages import call_after_commit

router = APIRouter(prefix="/sms", tags=["Short messages"])


class NewSms(BaseModel):
    """What is sent, and to whom."""

    to: str
    text: str


@router.post("", status_code=HTTPStatus.ACCEPTED)
async def send_one(new: NewSms, session: SessionDep) -> None:
    """Send one when the change is committed."""
    session.add(Sms(to=new.to, text=new.text))
    call_after_commit(session, send_due_sms.delay)
    await session.commit()


@router.get("")
async def read_states(session: ReadSessionDep) -> list[str]:
    """The states of the last hundred."""
    statement = select(Sms.state).order_by(col(Sms.id).desc()).limit(100)
    return list(await session.exec(statement))
