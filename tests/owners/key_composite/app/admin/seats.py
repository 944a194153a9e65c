"""Seats in the admin."""

from sqladmin import ModelView

from app.models.seat import Reservation, Seat


class SeatAdmin(ModelView, model=Seat):
    """Seats."""

    column_list = ("aisle", "number", "is_window")
    column_sortable_list = ("aisle", "number")
    column_searchable_list = ("aisle",)


class ReservationAdmin(ModelView, model=Reservation):
    """Reservations."""

    column_list = ("id", "passenger", "seat")
