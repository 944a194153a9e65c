"""Routes below `/api/mail/bounces`."""

from typing import Any

import httpx
import pytest
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.mail.models import MailMessage, MailState, MailSuppression
from kit.messages import Message
from kit.testing import change_settings

BOUNCES = "/api/mail/bounces"
REPORT = {"message_id": "1@example.com", "kind": "permanent", "diagnostic": "550 5.1.1 unknown"}


async def add_mail(session: AsyncSession, **values: Any) -> MailMessage:
    mail = MailMessage(
        message_id="1@example.com",
        template="shop.order-shipped",
        to_address="Ada@example.com",
        state=values.pop("state", MailState.SENT),
        attempts=values.pop("attempts", 1),
    )
    session.add(mail)
    await session.commit()
    return mail


async def suppressed(session: AsyncSession) -> dict[str, str]:
    return {row.address: row.reason for row in await session.exec(select(MailSuppression))}


class TestRefusals:
    async def test_outside_local_a_principal_is_needed(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, ENVIRONMENT="production")
        assert (await client.post(BOUNCES, json=REPORT)).status_code == 401

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"message_id": ""}, "/message_id"),
            ({"kind": "hard"}, "/kind"),
            ({"diagnostic": "x" * 901}, "/diagnostic"),
        ],
    )
    async def test_what_does_not_fit(
        self, client: httpx.AsyncClient, change: dict[str, str], pointer: str
    ) -> None:
        answer = await client.post(BOUNCES, json=REPORT | change)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    async def test_a_mail_that_is_unknown(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(BOUNCES, json=REPORT)
        assert answer.status_code == 404
        assert answer.json()["detail"] == "No mail has the Message-ID 1@example.com."

    async def test_a_mail_that_was_never_sent(
        self, client: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        await add_mail(db_session, state=MailState.QUEUED, attempts=0)
        answer = await client.post(BOUNCES, json=REPORT)
        assert answer.status_code == 409
        assert await suppressed(db_session) == {}


class TestReports:
    async def test_a_permanent_bounce_suppresses_the_address(
        self, client: httpx.AsyncClient, db_session: AsyncSession, published: list[Message]
    ) -> None:
        mail = await add_mail(db_session)

        answer = await client.post(BOUNCES, json=REPORT | {"message_id": "<1@example.com>"})

        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "bounced"
        await db_session.refresh(mail)
        assert mail.state == MailState.BOUNCED
        assert mail.error == "permanent: 550 5.1.1 unknown"
        assert await suppressed(db_session) == {"ada@example.com": "permanent: 550 5.1.1 unknown"}
        [message] = published
        assert message.name == "mail.bounced"
        assert message.payload["address"] == "Ada@example.com"

    async def test_a_transient_bounce_does_not(
        self, client: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        mail = await add_mail(db_session)
        await client.post(BOUNCES, json={"message_id": mail.message_id, "kind": "transient"})
        await db_session.refresh(mail)
        assert (mail.state, mail.error) == (MailState.BOUNCED, "transient")
        assert await suppressed(db_session) == {}

    async def test_who_complains_has_got_the_mail_and_gets_no_more(
        self, client: httpx.AsyncClient, db_session: AsyncSession, published: list[Message]
    ) -> None:
        mail = await add_mail(db_session)
        await client.post(BOUNCES, json={"message_id": mail.message_id, "kind": "complaint"})
        await db_session.refresh(mail)
        assert mail.state == MailState.SENT
        assert await suppressed(db_session) == {"ada@example.com": "complaint"}
        assert published == []

    @pytest.mark.parametrize("state", [MailState.SENDING, MailState.QUEUED, MailState.FAILED])
    async def test_a_bounce_may_come_before_the_worker_knows_that_the_mail_was_taken(
        self, client: httpx.AsyncClient, db_session: AsyncSession, state: MailState
    ) -> None:
        mail = await add_mail(db_session, state=state)
        assert (await client.post(BOUNCES, json=REPORT)).status_code == 200
        await db_session.refresh(mail)
        assert mail.state == MailState.BOUNCED

    async def test_twice_is_once(
        self, client: httpx.AsyncClient, db_session: AsyncSession, published: list[Message]
    ) -> None:
        await add_mail(db_session)
        first, second = [await client.post(BOUNCES, json=REPORT) for _ in range(2)]
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.json() == second.json()
        assert len(published) == 1
        assert len(await suppressed(db_session)) == 1
