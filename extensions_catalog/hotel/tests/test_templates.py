"""Mail that others send when they get the messages; here only its words are tested."""

import pytest

from app.core.templates import templates
from app.extensions.hotel.bookings import booking_payload
from app.extensions.hotel.models import HotelBooking, HotelGuest, HotelRoom
from app.extensions.hotel.tests.stays import may

ROOM = HotelRoom(id=1, name="Sea & Sun")
GUEST = HotelGuest(id=2, name="Mary O'Hara <i>", email="mary@example.com")
BOOKING = HotelBooking(id=3, room_id=1, guest_id=2, nights=may(4, 7))


@pytest.mark.parametrize("event", ["hotel.booking-confirmed", "hotel.booking-cancelled"])
def test_text_begins_with_its_subject_and_is_plain(event: str) -> None:
    payload = booking_payload(BOOKING, ROOM, GUEST)
    subject, blank, *lines = templates.get_template(f"mail/{event}.txt").render(payload).split("\n")
    assert subject.startswith("Subject: Your booking from 2030-05-04 to 2030-05-07")
    assert blank == ""
    text = "\n".join(lines)
    assert "Dear Mary O'Hara <i>," in text
    assert "room Sea & Sun" in text
    assert "booking is 3" in text or "booking 3" in text


def test_html_escapes_names() -> None:
    payload = booking_payload(BOOKING, ROOM, GUEST)
    html = templates.get_template("mail/hotel.booking-confirmed.html").render(payload)
    assert "Dear Mary O&#39;Hara &lt;i&gt;," in html
    assert "<strong>Sea &amp; Sun</strong>" in html
    assert "<strong>2030-05-04</strong> to <strong>2030-05-07</strong>" in html


def test_arrivals_are_a_line_each() -> None:
    arrivals = [
        {"booking_id": 3, "room": "101", "guest_name": "Mary O'Hara", "departure": "2030-05-07"},
        {"booking_id": 4, "room": "102", "guest_name": "Ada Lovelace", "departure": "2030-05-05"},
    ]
    payload = {"day": "2030-05-04", "mail_to": "desk@example.com", "arrivals": arrivals}
    text = templates.get_template("mail/hotel.arrivals-today.txt").render(payload)
    assert text.splitlines() == [
        "Subject: Arrivals on 2030-05-04: 2",
        "",
        "101: Mary O'Hara, until 2030-05-07 (booking 3)",
        "102: Ada Lovelace, until 2030-05-05 (booking 4)",
    ]
