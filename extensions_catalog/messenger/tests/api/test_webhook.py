"""What the platform calls."""

from typing import Any

import httpx
import pytest
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.messenger.api.webhook import BODY_LIMIT
from app.extensions.messenger.models import Direction, MessageState, MessengerMessage
from app.extensions.messenger.settings import messenger_settings
from app.extensions.messenger.tests.conftest import VERIFY_TOKEN
from app.extensions.messenger.tests.deliveries import (
    PAGE,
    PERSON,
    a_body,
    a_delivery,
    a_message,
    a_postback,
    signed,
)
from kit.messages import Message
from kit.testing import change_settings

URL = "/messenger/webhook"
HANDSHAKE = {
    "hub.mode": "subscribe",
    "hub.verify_token": VERIFY_TOKEN,
    "hub.challenge": "1158201444",
}


async def deliver(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    return await client.post(URL, content=body, headers=signed(body))


async def stored(session: AsyncSession) -> list[MessengerMessage]:
    statement = select(MessengerMessage).order_by(col(MessengerMessage.id))
    return list(await session.exec(statement))


class TestHandshake:
    @pytest.mark.parametrize(
        "changed",
        [
            {"hub.verify_token": "other"},
            {"hub.verify_token": ""},
            {"hub.verify_token": "größer"},
            {"hub.mode": "unsubscribe"},
        ],
    )
    async def test_is_refused(self, client: httpx.AsyncClient, changed: dict[str, str]) -> None:
        answer = await client.get(URL, params=HANDSHAKE | changed)
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        assert "1158201444" not in answer.text

    async def test_without_parameters_is_refused(self, client: httpx.AsyncClient) -> None:
        assert (await client.get(URL)).status_code == 403

    async def test_without_a_token_in_the_settings_is_refused(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, messenger_settings, VERIFY_TOKEN=None)
        answer = await client.get(URL, params=HANDSHAKE | {"hub.verify_token": ""})
        assert answer.status_code == 503
        assert "MESSENGER_VERIFY_TOKEN is not set" in answer.json()["detail"]

    async def test_answers_the_challenge_as_text(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(URL, params=HANDSHAKE)
        assert (answer.status_code, answer.text) == (200, "1158201444")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


class TestRefusedDeliveries:
    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({}, id="no signature"),
            pytest.param(signed(a_delivery(a_message("m_2"))), id="of another body"),
            pytest.param(signed(a_delivery(a_message()), "guessed"), id="another secret"),
            pytest.param({"X-Hub-Signature-256": b"sha256=\xe4"}, id="not ASCII"),
        ],
    )
    async def test_without_the_platforms_signature(
        self, client: httpx.AsyncClient, db_session: AsyncSession, headers: dict[str, Any]
    ) -> None:
        answer = await client.post(URL, content=a_delivery(a_message()), headers=headers)
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        assert await stored(db_session) == []

    async def test_a_body_of_which_one_byte_was_changed(self, client: httpx.AsyncClient) -> None:
        body = a_delivery(a_message(text="pay 100"))
        tampered = body.replace(b"100", b"900")
        answer = await client.post(URL, content=tampered, headers=signed(body))
        assert answer.status_code == 403

    async def test_the_old_signature_alone_is_not_enough(self, client: httpx.AsyncClient) -> None:
        body = a_delivery(a_message())
        headers = {"X-Hub-Signature": signed(body)["X-Hub-Signature-256"]}
        assert (await client.post(URL, content=body, headers=headers)).status_code == 403

    async def test_a_service_without_the_secret_says_so(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, messenger_settings, APP_SECRET=None)
        body = a_delivery(a_message())
        answer = await client.post(URL, content=body, headers=signed(body, ""))
        assert answer.status_code == 503
        assert "MESSENGER_APP_SECRET is not set" in answer.json()["detail"]

    async def test_more_than_is_read(self, client: httpx.AsyncClient) -> None:
        body = a_delivery(a_message())
        assert (await deliver(client, body.ljust(BODY_LIMIT + 1))).status_code == 413
        assert (await deliver(client, body.ljust(BODY_LIMIT))).status_code == 200

    @pytest.mark.parametrize("body", [b"", b"hello", b"[]", b"\xff", b"[" * 100_000])
    async def test_what_is_no_json_object(self, client: httpx.AsyncClient, body: bytes) -> None:
        assert (await deliver(client, body)).status_code == 400


class TestIgnored:
    @pytest.mark.parametrize(
        "event",
        [
            pytest.param(a_message(is_echo=True), id="echo of the page's own"),
            pytest.param({"sender": {"id": PERSON}, "read": {"watermark": 1}}, id="receipt"),
            pytest.param({"brand_new": True}, id="a kind that nobody knows"),
            pytest.param({"message": {"text": "no mid"}}, id="message without its id"),
            pytest.param(a_message("m" * 513), id="an id that is too long"),
            pytest.param(a_message(attachments="none"), id="members of another type"),
        ],
    )
    async def test_events_beside_messages_are_no_error(
        self, client: httpx.AsyncClient, db_session: AsyncSession, event: dict[str, Any]
    ) -> None:
        answer = await deliver(client, a_delivery(event, a_message("m_after")))
        assert answer.status_code == 200
        assert [message.mid for message in await stored(db_session)] == ["m_after"]

    @pytest.mark.parametrize(
        "document",
        [
            {"object": "instagram", "entry": [{"messaging": [a_message()]}]},
            {"object": "page"},
            {"object": "page", "entry": [{"id": PAGE, "changes": [{"field": "feed"}]}, 7]},
            {"object": "page", "entry": [{"id": PAGE, "standby": [a_message()]}]},
        ],
    )
    async def test_other_subscriptions_are_no_error(
        self, client: httpx.AsyncClient, db_session: AsyncSession, document: dict[str, Any]
    ) -> None:
        assert (await deliver(client, a_body(document))).status_code == 200
        assert await stored(db_session) == []


class TestMessages:
    async def test_are_stored_and_told(
        self, client: httpx.AsyncClient, db_session: AsyncSession, published: list[Message]
    ) -> None:
        image = {"type": "image", "payload": {"url": "https://cdn.example.com/a.png"}}
        event = a_message(text="äöå 👋 1/2", attachments=[image])

        answer = await deliver(client, a_delivery(event))

        assert (answer.status_code, answer.text) == (200, "EVENT_RECEIVED")
        [message] = await stored(db_session)
        assert (message.mid, message.page_id, message.psid) == ("m_1", PAGE, PERSON)
        assert (message.text, message.attachments) == ("äöå 👋 1/2", [image])
        assert (message.direction, message.state) == (Direction.IN, MessageState.RECEIVED)
        [told] = published
        assert told.name == "messenger.message-received"
        assert told.payload == {
            "message_id": message.id,
            "mid": "m_1",
            "page_id": PAGE,
            "sender_id": PERSON,
            "text": "äöå 👋 1/2",
            "attachments": [image],
            "postback": None,
            "sent_at": "2025-11-11T23:11:11.999000Z",
        }

    async def test_of_several_entries_are_all_stored(
        self, client: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        entries = [
            {"id": PAGE, "messaging": [a_message("m_1"), a_message("m_2", psid="77")]},
            {"id": PAGE, "messaging": [a_message("m_3")]},
        ]
        await deliver(client, a_body({"object": "page", "entry": entries}))
        assert [each.mid for each in await stored(db_session)] == ["m_1", "m_2", "m_3"]

    async def test_of_buttons_have_their_payload(
        self, client: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        quick = a_message("m_q", text="Red", quick_reply={"payload": "RED"})
        await deliver(client, a_delivery(a_postback(), quick))
        assert [(each.text, each.postback) for each in await stored(db_session)] == [
            ("Get started", "GET_STARTED"),
            ("Red", "RED"),
        ]

    async def test_lose_what_cannot_be_stored(
        self, client: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        event = a_message(text="a\0b\ud83d", attachments=[{"title": "\0\udc00"}])
        assert (await deliver(client, a_delivery(event))).status_code == 200
        [message] = await stored(db_session)
        assert (message.text, message.attachments) == ("ab?", [{"title": "?"}])

    async def test_delivered_again_are_neither_stored_nor_told_again(
        self, client: httpx.AsyncClient, db_session: AsyncSession, published: list[Message]
    ) -> None:
        for _ in range(2):
            assert (await deliver(client, a_delivery(a_message()))).status_code == 200
        assert len(await stored(db_session)) == len(published) == 1
