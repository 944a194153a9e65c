"""Minibars."""

from sqlmodel import Field, Relationship, SQLModel

from app.extensions.hotel.models import HotelRoom


class Minibar(SQLModel, table=True):
    """The minibar of a room."""

    id: int | None = Field(default=None, primary_key=True)
    bottles: int = Field(ge=0)
    room_id: int = Field(foreign_key="hotel_room.id", ondelete="CASCADE", unique=True)
    room: HotelRoom = Relationship()
