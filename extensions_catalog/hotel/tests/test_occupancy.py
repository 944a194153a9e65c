"""How the nights of a room's bookings are laid out, fourteen from 1 May 2030 on."""

from datetime import date

import pytest

from app.extensions.hotel.models import BookingStatus, HotelBooking
from app.extensions.hotel.occupancy import NIGHTS, Cell, arrange
from app.extensions.hotel.tests.stays import may

FREE = Cell()


def stays(*days: tuple[int, int]) -> list[HotelBooking]:
    return [HotelBooking(room_id=1, guest_id=1, nights=may(*pair)) for pair in days]


def taken(nights: int) -> Cell:
    return Cell(nights, BookingStatus.CONFIRMED)


@pytest.mark.parametrize(
    ("bookings", "cells"),
    [
        ([], [FREE] * 14),
        (stays((1, 15)), [taken(14)]),
        (stays((3, 5)), [FREE, FREE, taken(2), *[FREE] * 10]),
        (stays((3, 5), (5, 6)), [FREE, FREE, taken(2), taken(1), *[FREE] * 9]),
        (stays((3, 5), (6, 7)), [FREE, FREE, taken(2), FREE, taken(1), *[FREE] * 8]),
        (stays((13, 31)), [*[FREE] * 12, taken(2)]),
    ],
    ids=["none", "all", "in between", "one after the other", "a night between", "beyond the end"],
)
def test_cells(bookings: list[HotelBooking], cells: list[Cell]) -> None:
    arranged = list(arrange(bookings, date(2030, 5, 1)))
    assert arranged == cells
    assert sum(cell.nights for cell in arranged) == NIGHTS


def test_a_guest_who_is_there_already() -> None:
    arranged = list(arrange(stays((1, 6)), date(2030, 5, 4)))
    assert arranged == [taken(2), *[FREE] * 12]
