"""A real SMTP server of a test's own."""

from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope, Session

from app.extensions.mail.settings import mail_settings
from kit.testing import change_settings, free_port


class MailServer:
    """A real SMTP server on 127.0.0.1, which takes every mail unless it is told otherwise."""

    def __init__(self, **options: Any) -> None:
        self.mails: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.envelopes: list[Envelope] = []
        self.encrypted: list[bool] = []
        """Of each mail, whether it came over TLS."""
        self.sessions: set[object] = set()
        """Connections that mails came over, by their other ends."""
        # What it answers instead of 250, one by one, to MAIL, RCPT and DATA.
        self.answers_to_senders: list[str] = []
        self.answers_to_recipients: list[str] = []
        self.answers_to_data: list[str] = []
        self.before_accepting: Callable[[], None] = lambda: None
        """Called once the server has the whole mail, before it says so."""
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **options)

    def __enter__(self) -> "MailServer":
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    @property
    def message_ids(self) -> list[str]:
        """Message-ID of each mail that the server took, without < and >."""
        return [mail["Message-ID"].strip("<>") for mail in self.mails]

    async def handle_MAIL(  # noqa: N802 (aiosmtpd's names)
        self, server: object, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.answers_to_senders:
            return self.answers_to_senders.pop(0)
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: object, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.answers_to_recipients:
            return self.answers_to_recipients.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope
    ) -> str:
        self.sessions.add(session.peer)
        if self.answers_to_data:
            return self.answers_to_data.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content, policy=default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.raw.append(content)
        self.envelopes.append(envelope)
        self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        self.before_accepting()
        return "250 OK: taken"


def point_at(monkeypatch: pytest.MonkeyPatch, port: int, **values: object) -> None:
    """Settings for a server on this machine."""
    there = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": port, "SMTP_TLS": "none"}
    there |= {"FROM": "shop@example.com", "FROM_NAME": "The Shop"}
    change_settings(monkeypatch, mail_settings, **(there | values))
