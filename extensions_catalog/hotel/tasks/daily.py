"""The hotel's daily task, which runs each morning.

A task may run twice, when a worker is lost: the rows record what is done already, in the same
transaction, and two runs at the same time skip each other's rows.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import col, select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.core.task_context import get_task_id
from app.extensions.hotel import dates
from app.extensions.hotel.models import BookingStatus, HotelBooking, HotelGuest, HotelRoom
from app.extensions.hotel.settings import hotel_settings
from kit.messages import publish_sync

logger = logging.getLogger(__name__)

BATCH_SIZE = 500


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.hotel.daily_task")
def daily_task() -> dict[str, int]:
    """Mark no-shows and announce today's arrivals; returns the numbers of bookings."""
    day = dates.today()
    done = {"no_shows": mark_no_shows(day), "announced": announce_arrivals(day)}
    logger.info("%s%s: %s", get_task_id(), day, done)
    return done


def mark_no_shows(day: date) -> int:
    """Mark bookings whose guest should have come before the day; returns their number."""
    count = 0
    while marked := _mark_batch(day):
        count += marked
    return count


def announce_arrivals(day: date) -> int:
    """Publish the day's arrivals that are not announced yet; returns their number."""
    count = 0
    while announced := _announce_batch(day):
        count += announced
    return count


def _mark_batch(day: date) -> int:
    statement = (
        select(HotelBooking)
        .where(
            HotelBooking.status == BookingStatus.CONFIRMED, func.lower(HotelBooking.nights) < day
        )
        .limit(BATCH_SIZE)
        .with_for_update(skip_locked=True)
    )
    with sync_session_maker.begin() as session:
        bookings = session.exec(statement).all()
        for booking in bookings:
            booking.status = BookingStatus.NO_SHOW
    return len(bookings)


def _announce_batch(day: date) -> int:
    statement = (
        select(HotelBooking, HotelRoom, HotelGuest)
        .join(HotelRoom)
        .join(HotelGuest)
        .where(
            HotelBooking.status == BookingStatus.CONFIRMED,
            func.lower(HotelBooking.nights) == day,
            col(HotelBooking.announced_at).is_(None),
        )
        .order_by(HotelRoom.name)
        .limit(BATCH_SIZE)
        .with_for_update(of=HotelBooking, skip_locked=True)
    )
    with sync_session_maker.begin() as session:
        arrivals = session.exec(statement).all()
        for booking, _, _ in arrivals:
            booking.announced_at = datetime.now(UTC)
        if arrivals:
            publish_sync(session, "hotel.arrivals-today", _arrivals_payload(day, arrivals))
    return len(arrivals)


def _arrivals_payload(
    day: date, arrivals: Iterable[tuple[HotelBooking, HotelRoom, HotelGuest]]
) -> dict[str, Any]:
    return {
        "day": day.isoformat(),
        "mail_to": hotel_settings.FRONT_DESK_EMAIL,
        "arrivals": [
            {
                "booking_id": booking.id,
                "room": room.name,
                "guest_name": guest.name,
                "departure": booking.departure.isoformat(),
            }
            for booking, room, guest in arrivals
        ],
    }
