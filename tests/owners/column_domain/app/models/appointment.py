"""Appointments, of which one begins after another has ended."""

from datetime import datetime
from typing import Any, ClassVar

from pydantic import ConfigDict
from sqlalchemy import Sequence, Text
from sqlalchemy.dialects.postgresql import DOMAIN, TSTZRANGE, ExcludeConstraint, Range
from sqlmodel import Field, SQLModel

MAIL = DOMAIN("mail_address", Text(), constraint_name="ck_mail_address", check="VALUE LIKE '%@%'")
NUMBER = Sequence("appointment_number", start=1000, metadata=SQLModel.metadata)


class Appointment(SQLModel, table=True):
    """An appointment."""

    __table_args__: ClassVar[Any] = (
        ExcludeConstraint(("during", "&&"), name="ex_appointment_during", using="gist"),
    )
    model_config = ConfigDict(arbitrary_types_allowed=True)  # type: ignore[assignment]

    id: int | None = Field(default=None, primary_key=True)
    number: int | None = Field(
        default=None, nullable=False, sa_column_kwargs={"server_default": NUMBER.next_value()}
    )
    mail: str = Field(sa_type=MAIL, sa_column_kwargs={"info": {"sample": "n || '@example.com'"}})
    during: Range[datetime] = Field(sa_type=TSTZRANGE)
