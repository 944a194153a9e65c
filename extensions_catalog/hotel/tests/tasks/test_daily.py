"""The daily task; it is called here in the test's transaction."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import pytest
from sqlmodel import Session

from app.extensions.hotel.models import BookingStatus, HotelBooking, HotelGuest, HotelRoom
from app.extensions.hotel.settings import HotelSettings
from app.extensions.hotel.tasks import daily, daily_task
from app.extensions.hotel.tests.stays import booked, may
from kit.queue import collect_schedules

Book = Callable[..., HotelBooking]


@pytest.fixture
def book(sync_db_session: Session) -> Book:
    """A function that books a new room for Ada Lovelace, from one day of May to another."""
    guest = HotelGuest(name="Ada Lovelace")
    sync_db_session.add(guest)
    numbers = iter(range(101, 110))

    def book_room(
        first: int, last: int, status: BookingStatus = BookingStatus.CONFIRMED
    ) -> HotelBooking:
        room = HotelRoom(name=str(next(numbers)))
        sync_db_session.add(room)
        sync_db_session.flush()
        booking = booked(room, guest, may(first, last), status)
        sync_db_session.add(booking)
        sync_db_session.commit()
        return booking

    return book_room


@pytest.fixture
def on_the_fourth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.extensions.hotel.dates.today", lambda: date(2030, 5, 4))


@pytest.mark.usefixtures("on_the_fourth")
class TestNoShows:
    @pytest.mark.parametrize("arrival", [1, 3])
    def test_who_did_not_come_yesterday_or_earlier(
        self, sync_db_session: Session, book: Book, arrival: int
    ) -> None:
        booking = book(arrival, 7)
        assert daily_task()["no_shows"] == 1
        sync_db_session.refresh(booking)
        assert booking.status == BookingStatus.NO_SHOW

    def test_no_other_booking(self, sync_db_session: Session, book: Book) -> None:
        others = [
            book(4, 7),
            book(5, 7),
            book(3, 7, BookingStatus.ARRIVED),
            book(3, 7, BookingStatus.CANCELLED),
        ]
        before = [booking.status for booking in others]
        assert daily_task()["no_shows"] == 0
        for booking, status in zip(others, before, strict=True):
            sync_db_session.refresh(booking)
            assert booking.status == status

    def test_twice_is_once(self, book: Book) -> None:
        book(3, 7)
        assert daily_task()["no_shows"] == 1
        assert daily_task()["no_shows"] == 0

    def test_more_than_one_batch(self, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(daily, "BATCH_SIZE", 2)
        for _ in range(5):
            book(3, 7)
        assert daily_task()["no_shows"] == 5


Published = list[tuple[str, Mapping[str, Any]]]


@pytest.mark.usefixtures("on_the_fourth")
class TestArrivals:
    def test_without_any_there_is_no_message(self, book: Book, published: Published) -> None:
        book(3, 7)
        book(5, 7)
        book(4, 7, BookingStatus.ARRIVED)
        book(4, 7, BookingStatus.CANCELLED)
        assert daily_task()["announced"] == 0
        assert published == []

    def test_are_listed_for_the_front_desk(
        self, book: Book, published: Published, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            daily, "hotel_settings", HotelSettings(FRONT_DESK_EMAIL="desk@example.com")
        )
        first, second = book(4, 7), book(4, 5)
        assert daily_task()["announced"] == 2
        assert published == [
            (
                "hotel.arrivals-today",
                {
                    "day": "2030-05-04",
                    "mail_to": "desk@example.com",
                    "arrivals": [
                        {
                            "booking_id": first.id,
                            "room": "101",
                            "guest_name": "Ada Lovelace",
                            "departure": "2030-05-07",
                        },
                        {
                            "booking_id": second.id,
                            "room": "102",
                            "guest_name": "Ada Lovelace",
                            "departure": "2030-05-05",
                        },
                    ],
                },
            )
        ]

    def test_no_mail_is_addressed_while_no_address_is_set(
        self, book: Book, published: Published
    ) -> None:
        book(4, 7)
        daily_task()
        [(_, payload)] = published
        assert payload["mail_to"] is None

    def test_a_second_run_publishes_only_those_booked_since(
        self, book: Book, published: Published
    ) -> None:
        book(4, 7)
        daily_task()
        daily_task()
        assert len(published) == 1
        late = book(4, 5)
        daily_task()
        [arrival] = published[1][1]["arrivals"]
        assert arrival["booking_id"] == late.id

    def test_more_than_one_batch(
        self, book: Book, published: Published, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(daily, "BATCH_SIZE", 2)
        for _ in range(5):
            book(4, 7)
        assert daily_task()["announced"] == 5
        assert [len(payload["arrivals"]) for _, payload in published] == [2, 2, 1]


def test_beat_sends_it_each_morning() -> None:
    entry = collect_schedules()["hotel.daily-task"]
    assert entry["task"] == daily_task.name
    assert (entry["schedule"].hour, entry["schedule"].minute) == ({5}, {0})
