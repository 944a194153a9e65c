"""The newest mails, on the start page of a developer's machine."""

from sqlmodel import col, select

from app.core.database import read_session_maker
from app.extensions.mail.models import MailMessage
from kit.live import Panel, Row

SHOWN = 4
_STATES = {"sent": "up", "failed": "down", "bounced": "down"}


async def read_panel() -> Panel:
    """The last mails that were written, whether they left this machine or not."""
    newest = select(MailMessage).order_by(col(MailMessage.id).desc()).limit(SHOWN)
    async with read_session_maker() as session:
        mails = (await session.exec(newest)).all()
    rows = [
        Row(
            mail.subject or mail.template,
            f"{mail.state}, to {mail.to_address}",
            _STATES.get(mail.state, ""),
            f"/mail/outbox/{mail.id}",
        )
        for mail in mails
    ]
    return Panel("Mails", [*rows, Row("All mails", "", "", "/mail/outbox")])
