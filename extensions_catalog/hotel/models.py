"""Tables, named after the extension, and the forms that the API accepts and returns."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, cast

from pydantic import StringConstraints, ValidationInfo, field_validator
from sqlalchemy import DDL, CheckConstraint, DateTime, UniqueConstraint, event, func, text
from sqlalchemy.dialects.postgresql import DATERANGE, ExcludeConstraint, Range
from sqlmodel import Field, Relationship, SQLModel

from app.extensions.hotel import dates
from app.extensions.hotel.settings import hotel_settings

LARGEST_ID = 2**31 - 1
"""The largest value of PostgreSQL's `integer`."""

# Names get into the subjects of mail, where a line break would begin another header.
OneLine = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$")]
EmailAddress = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$")]


class HotelRoomInput(SQLModel):
    """A room, as a caller sends it."""

    name: OneLine = Field(max_length=50, description="The name or number on its door.")
    beds: int = Field(default=1, ge=1, le=20)


class HotelRoom(HotelRoomInput, table=True):
    """A room."""

    __tablename__ = "hotel_room"
    __table_args__ = (UniqueConstraint("name"),)

    id: int | None = Field(default=None, primary_key=True)

    def __str__(self) -> str:
        return self.name


class HotelRoomOutput(HotelRoomInput):
    """A room, as the API returns it."""

    id: int


class HotelGuestInput(SQLModel):
    """A guest, as a caller sends it."""

    name: OneLine = Field(max_length=200)
    email: EmailAddress | None = Field(
        default=None, max_length=254, description="Address for confirmations."
    )


class HotelGuest(HotelGuestInput, table=True):
    """A guest."""

    __tablename__ = "hotel_guest"

    id: int | None = Field(default=None, primary_key=True)
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )

    def __str__(self) -> str:
        return self.name


class HotelGuestOutput(HotelGuestInput):
    """A guest, as the API returns it."""

    id: int
    created_at: datetime


class HotelStay(SQLModel):
    """Nights in a row: from the day of arrival up to the night before the day of departure."""

    arrival: date
    departure: date

    @field_validator("departure")
    @classmethod
    def _departure_fits_arrival(cls, departure: date, info: ValidationInfo) -> date:
        arrival: date | None = info.data.get("arrival")
        if arrival is None:  # it is not a date, which has its own error
            return departure
        if departure <= arrival:
            raise ValueError("has to be after the arrival")
        if (departure - arrival).days > hotel_settings.LONGEST_STAY:
            raise ValueError(f"has to be at most {hotel_settings.LONGEST_STAY} nights after it")
        return departure

    @property
    def nights(self) -> Range[date]:
        """The nights as a range of PostgreSQL: without the day of departure."""
        return Range(self.arrival, self.departure)


class HotelBookingInput(HotelStay):
    """A booking, as a caller sends it."""

    room_id: int = Field(ge=1, le=LARGEST_ID)
    guest_id: int = Field(ge=1, le=LARGEST_ID)

    @field_validator("arrival")
    @classmethod
    def _arrival_is_to_come(cls, arrival: date) -> date:
        if arrival < dates.today():
            raise ValueError("is in the past")
        return arrival


class BookingStatus(StrEnum):
    """Status of a booking. Stored as text, so that a new one needs no migration."""

    CONFIRMED = "confirmed"
    ARRIVED = "arrived"
    NO_SHOW = "no_show"
    CANCELLED = "cancelled"


ROOM_IS_FREE = "ex_hotel_booking_room_id_nights"
"""The constraint that keeps a room from being booked twice."""


class HotelBooking(SQLModel, table=True):
    """A room for a guest for some nights."""

    __tablename__ = "hotel_booking"
    __table_args__ = (
        ExcludeConstraint(
            ("room_id", "="),
            ("nights", "&&"),
            name=ROOM_IS_FREE,
            using="gist",
            where=text("status <> 'cancelled'"),
        ),
        # An empty range overlaps none, so the constraint above would accept it.
        CheckConstraint(
            "NOT isempty(nights) AND NOT lower_inf(nights) AND NOT upper_inf(nights)",
            name="nights",
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    room_id: int = Field(foreign_key="hotel_room.id")
    guest_id: int = Field(foreign_key="hotel_guest.id", index=True)
    nights: Range[date] = Field(sa_type=DATERANGE)
    status: str = Field(
        default=BookingStatus.CONFIRMED, max_length=16, description="One of BookingStatus"
    )
    announced_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="When the front desk was notified that the guest arrives today",
    )
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )

    room: HotelRoom = Relationship()
    guest: HotelGuest = Relationship()

    @property
    def arrival(self) -> date:
        """The day of arrival."""
        return cast("date", self.nights.lower)

    @property
    def departure(self) -> date:
        """The day of departure, which is the first that is not booked."""
        return cast("date", self.nights.upper)

    def __str__(self) -> str:
        return f"{self.arrival} to {self.departure}"


class HotelBookingOutput(SQLModel):
    """A booking, as the API returns it."""

    id: int
    room_id: int
    guest_id: int
    arrival: date
    departure: date
    status: BookingStatus
    created_at: datetime


# The constraint compares room_id, an integer, in a GiST index, for which PostgreSQL needs an
# extension of its own. Supabase keeps those out of the schema `public`, which it publishes.
CREATE_BTREE_GIST = """
    DO $$
    BEGIN
        IF to_regnamespace('extensions') IS NULL THEN
            CREATE EXTENSION IF NOT EXISTS btree_gist;
        ELSE
            CREATE EXTENSION IF NOT EXISTS btree_gist SCHEMA extensions;
        END IF;
    END
    $$
"""

event.listen(
    SQLModel.metadata.tables["hotel_booking"],
    "before_create",
    DDL(CREATE_BTREE_GIST),  # type: ignore[no-untyped-call]
)
