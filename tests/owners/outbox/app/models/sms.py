"""Short messages that are to be sent."""

from kit.outbox import OutboxRow, due_index


class Sms(OutboxRow, table=True):
    """One of them."""

    __tablename__ = "sms"
    __table_args__ = (due_index(),)

    to: str
    text: str
