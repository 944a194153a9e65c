"""The messages in the admin."""

import httpx
import pytest
from sqlmodel import Session

from app.extensions.messenger.models import Direction, MessageState, MessengerMessage

MESSAGES = "/admin/messenger-message"


def add(session: Session, direction: Direction, state: MessageState) -> MessengerMessage:
    message = MessengerMessage(
        direction=direction,
        psid="11",
        text="Do you open <today>?",
        state=state,
        attempts=3,
        error="400 10 outside of allowed window",
    )
    session.add(message)
    session.commit()
    return message


async def test_strangers_see_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{MESSAGES}/list")
    assert answer.status_code == 302
    assert "/admin/login" in answer.headers["location"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, True),
        ({"search": "today"}, True),
        ({"search": "tomorrow"}, False),
        ({"direction": "IN"}, True),
        ({"direction": "OUT"}, False),
        ({"state": "SENT"}, False),
    ],
)
async def test_messages_are_found(
    admin_client: httpx.AsyncClient, sync_db_session: Session, query: dict[str, str], found: bool
) -> None:
    add(sync_db_session, Direction.IN, MessageState.RECEIVED)
    answer = await admin_client.get(f"{MESSAGES}/list", params=query)
    assert answer.status_code == 200
    assert ("Do you open &lt;today&gt;?" in answer.text) is found


async def test_list_shows_the_beginning_of_a_text(
    admin_client: httpx.AsyncClient, sync_db_session: Session
) -> None:
    message = add(sync_db_session, Direction.IN, MessageState.RECEIVED)
    message.text = "hello " * 1000 + "goodbye"
    sync_db_session.commit()
    listed = (await admin_client.get(f"{MESSAGES}/list")).text
    assert "hello hello…" in listed
    assert "goodbye" not in listed
    details = (await admin_client.get(f"{MESSAGES}/details/{message.id}")).text
    assert "goodbye" in details


async def test_details_tell_what_went_wrong(
    admin_client: httpx.AsyncClient, sync_db_session: Session
) -> None:
    message = add(sync_db_session, Direction.OUT, MessageState.FAILED)
    answer = await admin_client.get(f"{MESSAGES}/details/{message.id}")
    assert "400 10 outside of allowed window" in answer.text


class TestSendAgain:
    async def send_again(self, client: httpx.AsyncClient, pks: str) -> httpx.Response:
        page = f"{MESSAGES}/action/send-again"
        return await client.get(page, params={"pks": pks})

    @pytest.mark.parametrize(
        ("direction", "state"),
        [
            (Direction.IN, MessageState.RECEIVED),
            (Direction.OUT, MessageState.SENT),
            (Direction.OUT, MessageState.SENDING),
        ],
    )
    async def test_leaves_what_is_no_unsent_reply(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        direction: Direction,
        state: MessageState,
    ) -> None:
        message = add(sync_db_session, direction, state)
        await self.send_again(admin_client, str(message.id))
        sync_db_session.refresh(message)
        assert message.state == state

    async def test_refuses_what_is_no_key(self, admin_client: httpx.AsyncClient) -> None:
        assert (await self.send_again(admin_client, "1,x")).status_code == 400

    async def test_queues_a_failed_reply(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session, sent_tasks: list[str]
    ) -> None:
        message = add(sync_db_session, Direction.OUT, MessageState.FAILED)
        assert (await self.send_again(admin_client, str(message.id))).status_code == 303
        sync_db_session.refresh(message)
        assert (message.state, message.attempts, message.error) == (MessageState.QUEUED, 0, "")
        assert len(sent_tasks) == 1
