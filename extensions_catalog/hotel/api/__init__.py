"""Rooms, guests and bookings of the hotel."""

from fastapi import APIRouter

from app.extensions.hotel.api import bookings, guests, rooms
from app.extensions.hotel.api.pages import page_router
from kit.security import serves

__all__ = ["page_router", "router"]

router = APIRouter(dependencies=[serves(scope="hotel:read", write_scope="hotel:write")])
router.include_router(rooms.router)
router.include_router(guests.router)
router.include_router(bookings.router)
