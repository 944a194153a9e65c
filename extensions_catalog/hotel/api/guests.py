"""Routes below `/api/hotel/guests`."""

from http import HTTPStatus

from fastapi import APIRouter
from sqlmodel import col, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.extensions.hotel.api.parameters import AfterId, RowId
from app.extensions.hotel.models import HotelGuest, HotelGuestInput, HotelGuestOutput
from app.extensions.hotel.settings import hotel_settings
from kit.errors import Problem

router = APIRouter(prefix="/guests", tags=["Guests"])


@router.get("", response_model=list[HotelGuestOutput])
async def list_guests(session: ReadSessionDep, after: AfterId = 0) -> list[HotelGuest]:
    """List the guests in the order in which they were added, a page after guest `after`."""
    statement = select(HotelGuest).where(col(HotelGuest.id) > after).order_by(col(HotelGuest.id))
    return list(await session.exec(statement.limit(hotel_settings.PAGE_SIZE)))


@router.get("/{guest_id}", response_model=HotelGuestOutput)
async def read_guest(session: ReadSessionDep, guest_id: RowId) -> HotelGuest:
    """Read one guest."""
    guest = await session.get(HotelGuest, guest_id)
    if guest is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no guest {guest_id}.")
    return guest


@router.post("", response_model=HotelGuestOutput, status_code=HTTPStatus.CREATED)
async def create_guest(session: SessionDep, values: HotelGuestInput) -> HotelGuest:
    """Add a guest."""
    guest = HotelGuest.model_validate(values)
    session.add(guest)
    await session.commit()
    return guest
