"""Taking over what people wrote: each message once, however often it is delivered."""

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.messenger.events import IncomingMessage
from app.extensions.messenger.models import Direction, MessageState, MessengerMessage
from kit.messages import publish

RECEIVED = "messenger.message-received"
"""Message that tells of what a person wrote."""


async def take_over(session: AsyncSession, message: IncomingMessage) -> bool:
    """Store a message and tell every handler, and commit; False when it was there already.

    Of two deliveries at the same moment the second waits for the first, and then finds it there.
    """
    statement = (
        insert(MessengerMessage)
        .values(
            message.model_dump() | {"direction": Direction.IN, "state": MessageState.RECEIVED},
        )
        .on_conflict_do_nothing(index_elements=["mid"])
        .returning(col(MessengerMessage.id))
    )
    message_id = (await session.exec(statement)).scalar_one_or_none()
    if message_id is not None:
        await publish(session, RECEIVED, _payload(message_id, message))
    await session.commit()
    return message_id is not None


def _payload(message_id: int, message: IncomingMessage) -> dict[str, object]:
    told = message.model_dump(mode="json", exclude={"psid"})
    return told | {"message_id": message_id, "sender_id": message.psid}
