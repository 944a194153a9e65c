"""Routes below `/api/hotel/rooms`."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from sqlmodel import Field, col, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.extensions.hotel.api.parameters import AfterId, RowId
from app.extensions.hotel.models import (
    LARGEST_ID,
    BookingStatus,
    HotelBooking,
    HotelRoom,
    HotelRoomInput,
    HotelRoomOutput,
    HotelStay,
)
from app.extensions.hotel.settings import hotel_settings
from kit.errors import Problem

router = APIRouter(prefix="/rooms", tags=["Rooms"])


class FreeRoomsQuery(HotelStay):
    """The nights for which free rooms are searched."""

    after: int = Field(
        default=0, ge=0, le=LARGEST_ID, description="The last id of the page before this one."
    )


@router.get("", response_model=list[HotelRoomOutput])
async def list_rooms(session: ReadSessionDep, after: AfterId = 0) -> list[HotelRoom]:
    """List the rooms in the order in which they were added, a page after room `after`."""
    statement = select(HotelRoom).where(col(HotelRoom.id) > after).order_by(col(HotelRoom.id))
    return list(await session.exec(statement.limit(hotel_settings.PAGE_SIZE)))


@router.get("/free", response_model=list[HotelRoomOutput])
async def list_free_rooms(
    session: ReadSessionDep, query: Annotated[FreeRoomsQuery, Query()]
) -> list[HotelRoom]:
    """List the rooms that are free for all nights from arrival to departure, as of now."""
    taken = select(HotelBooking).where(
        HotelBooking.room_id == HotelRoom.id,
        HotelBooking.nights.overlaps(query.nights),
        HotelBooking.status != BookingStatus.CANCELLED,
    )
    statement = (
        select(HotelRoom)
        .where(col(HotelRoom.id) > query.after, ~taken.exists())
        .order_by(col(HotelRoom.id))
    )
    return list(await session.exec(statement.limit(hotel_settings.PAGE_SIZE)))


@router.get("/{room_id}", response_model=HotelRoomOutput)
async def read_room(session: ReadSessionDep, room_id: RowId) -> HotelRoom:
    """Read one room."""
    room = await session.get(HotelRoom, room_id)
    if room is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no room {room_id}.")
    return room


@router.post("", response_model=HotelRoomOutput, status_code=HTTPStatus.CREATED)
async def create_room(session: SessionDep, values: HotelRoomInput) -> HotelRoom:
    """Add a room; 409 when another has its name."""
    room = HotelRoom.model_validate(values)
    session.add(room)
    await session.commit()
    return room
