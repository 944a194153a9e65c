"""Mails as bytes: nothing that somebody enters makes a header or ends the mail."""

import re
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import default
from email.utils import parseaddr
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.extensions.mail.mime import compose
from app.extensions.mail.models import MailMessage
from app.extensions.mail.rendering import one_line
from app.extensions.mail.settings import MailSettings

SETTINGS = MailSettings(FROM="shop@example.com", FROM_NAME="Größe & Co., 東京")

HEADERS = {
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
}


def mail(**values: Any) -> MailMessage:
    return MailMessage(
        **{
            "message_id": "42@example.com",
            "to_address": "ada@example.com",
            "to_name": "Ada",
            "subject": "Order 7",
            "text_body": "Dear Ada\n",
            "created_at": datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
            **values,
        }
    )


def travelled(sent: MailMessage) -> EmailMessage:
    """The mail as its recipient's program reads it."""
    content = compose(sent, SETTINGS).as_bytes()
    assert content.isascii()
    received = message_from_bytes(content, policy=default)
    assert isinstance(received, EmailMessage)
    return received


def lines(received: EmailMessage) -> list[str]:
    return re.split("\r\n", received.get_content())


def recipient(sent: MailMessage) -> tuple[str, str]:
    """Name and address of its recipient, read by the older parser of the standard library.

    The newer one, of Python 3.11, leaves the space between two encoded words in a name.
    """
    header = message_from_bytes(compose(sent, SETTINGS).as_bytes())["To"]
    name, address = parseaddr(header)
    return str(make_header(decode_header(name))), address


def test_headers() -> None:
    received = travelled(mail())
    assert received["From"] == '"Größe & Co., 東京" <shop@example.com>'
    assert received["To"] == "Ada <ada@example.com>"
    assert received["Subject"] == "Order 7"
    assert received["Message-ID"] == "<42@example.com>"
    assert received["Date"].datetime == datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
    assert received["Auto-Submitted"] == "auto-generated"
    assert set(received.keys()) <= HEADERS


def test_text_alone() -> None:
    received = travelled(mail(text_body="Dear Zoë\n"))
    assert received.get_content_type() == "text/plain"
    assert lines(received) == ["Dear Zoë", ""]


def test_html_beside_text() -> None:
    received = travelled(mail(html_body="<p>Dear Zoë</p>"))
    assert received.get_content_type() == "multipart/alternative"
    text, html = received.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert html.get_content_type() == "text/html"
    assert html.get_content().strip() == "<p>Dear Zoë</p>"


def test_without_a_name_the_address_stands_alone() -> None:
    assert travelled(mail(to_name=""))["To"] == "ada@example.com"


def test_it_is_the_same_in_each_attempt() -> None:
    first, second = (compose(mail(), SETTINGS).as_bytes() for _ in range(2))
    assert first == second


LONG = "0" * 14 + "\xa1" * 8 + "\U00010000" * 3
ENCODED = "=?utf-8?q?Hi=0D=0ABcc:_eve@example.com=0D=0A=0D=0AThe_end?="
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


@given(name=text, subject=text, body=text)
@example(name=f"{LONG} \xa1", subject=f"{LONG} \xa1 \xa1", body="").via("lost a space")
@example(name=ENCODED, subject=f"Order {ENCODED}", body="").via("was decoded, and made a header")
@settings(max_examples=100, deadline=None)
def test_whatever_is_entered_arrives_and_makes_no_header(
    name: str, subject: str, body: str
) -> None:
    sent = mail(to_name=one_line(name), subject=one_line(subject), text_body=f"{body}\n")
    received = travelled(sent)
    assert set(received.keys()) <= HEADERS
    assert recipient(sent) == (sent.to_name, "ada@example.com")
    assert received["Subject"] == sent.subject
    assert lines(received) == re.split("\r\n|\r|\n", f"{body}\n")
