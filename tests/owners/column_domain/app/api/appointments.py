"""Appointments over the API."""

from datetime import datetime
from http import HTTPStatus

from fastapi import APIRouter
from sqlalchemy.dialects.postgresql import Range
from sqlmodel import SQLModel

from app.core.dependencies import SessionDep
from app.models.appointment import Appointment

router = APIRouter(prefix="/appointments", tags=["Appointments"])


class AppointmentInput(SQLModel):
    """What a caller sends."""

    mail: str
    begins_at: datetime
    ends_at: datetime


class AppointmentOutput(SQLModel):
    """An appointment as it is shown."""

    id: int
    number: int
    mail: str


@router.post("", status_code=HTTPStatus.CREATED, response_model=AppointmentOutput)
async def add_appointment(session: SessionDep, values: AppointmentInput) -> Appointment:
    """Add an appointment."""
    appointment = Appointment(mail=values.mail, during=Range(values.begins_at, values.ends_at))
    session.add(appointment)
    await session.commit()
    return appointment
