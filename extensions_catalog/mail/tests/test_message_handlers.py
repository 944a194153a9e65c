"""What follows when something has happened that is told by mail."""

import logging
from typing import Any

import pytest
from sqlmodel import Session, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.mail.models import MailMessage, MailState
from app.extensions.mail.tests.mail_server import point_at
from kit.messages import Message, publish, publish_sync
from kit.models import ApiToken

SHIPPED = "shop.order-shipped"
PAYLOAD = {"mail_to": "ada@example.com", "order": 7, "name": "Ada", "day": "Monday"}


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch, sent_tasks: list[str]) -> None:
    """With a server, which these tests never reach: no worker runs."""
    point_at(monkeypatch, 25)


async def mails(session: AsyncSession) -> list[MailMessage]:
    return list(await session.exec(select(MailMessage)))


class TestNoMail:
    async def test_when_the_sender_rolls_back(
        self, db_session: AsyncSession, sent_tasks: list[str]
    ) -> None:
        await publish(db_session, SHIPPED, PAYLOAD)
        assert len(await mails(db_session)) == 1
        await db_session.rollback()
        assert await mails(db_session) == []
        assert sent_tasks == []

    @pytest.mark.parametrize(
        ("name", "payload"),
        [
            ("shop.order-paid", PAYLOAD),
            (SHIPPED, {}),
            (SHIPPED, PAYLOAD | {"mail_to": None}),
            (SHIPPED, PAYLOAD | {"mail_to": ""}),
        ],
        ids=["no template", "no recipient", "none", "empty"],
    )
    async def test_without_a_template_or_a_recipient(
        self, db_session: AsyncSession, sent_tasks: list[str], name: str, payload: dict[str, Any]
    ) -> None:
        await publish(db_session, name, payload)
        await db_session.commit()
        assert await mails(db_session) == []
        assert sent_tasks == []


class TestMailsThatCannotBeMade:
    """They are noted as failed, and never fail their sender."""

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"mail_to": "ada"}, "must have an @-sign"),
            ({"mail_to": ["ada@example.com"]}, "characters before the @-sign"),
            ({"mail_to": "ada@example.com\r\nBcc: eve@example.com"}, "invalid characters"),
            ({"mail_to": f"ada@{'example.' * 40}com"}, "invalid characters"),
            ({"mail_to": "zoë@example.com"}, "Internationalized characters"),
            ({"name": None, "day": {"of": "week"}, "order": []}, ""),
        ],
    )
    async def test_are_noted(
        self,
        db_session: AsyncSession,
        published: list[Message],
        caplog: pytest.LogCaptureFixture,
        change: dict[str, Any],
        reason: str,
    ) -> None:
        payload = PAYLOAD | change
        if not reason:
            del payload["day"]
            reason = "mail/shop.order-shipped.txt: UndefinedError: 'day' is undefined"
        db_session.add(ApiToken(name="beside", hint="api_", token_hash="0"))
        with caplog.at_level(logging.ERROR):
            await publish(db_session, SHIPPED, payload)
        await db_session.commit()

        assert (await db_session.exec(select(ApiToken))).one().name == "beside"
        [mail] = await mails(db_session)
        assert mail.state == MailState.FAILED
        assert reason in mail.error
        assert mail.payload == payload
        assert mail.text_body is None
        assert "the mail for shop.order-shipped cannot be made" in caplog.text
        assert [message.name for message in published] == ["mail.failed"]


class TestMails:
    async def test_are_written_beside_and_sent_after_commit(
        self, db_session: AsyncSession, sent_tasks: list[str]
    ) -> None:
        await publish(db_session, SHIPPED, PAYLOAD | {"mail_to_name": "Ada\r\nLovelace"})
        assert sent_tasks == []
        await db_session.commit()

        [mail] = await mails(db_session)
        assert mail.state == MailState.QUEUED
        assert (mail.to_address, mail.to_name) == ("ada@example.com", "Ada Lovelace")
        assert mail.subject == "Order 7 is on its way"
        assert mail.text_body == "Dear Ada,\nit comes on Monday.\n"
        assert mail.html_body == "<p>Dear Ada, it comes on <b>Monday</b>.</p>"
        assert mail.payload is None
        assert mail.message_id.endswith("@example.com")
        assert sent_tasks == ["app.tasks.mail.send_due"]

    async def test_have_each_an_id_of_their_own(self, db_session: AsyncSession) -> None:
        for _ in range(3):
            await publish(db_session, SHIPPED, PAYLOAD)
        await db_session.commit()
        assert len({mail.message_id for mail in await mails(db_session)}) == 3

    def test_of_a_task(self, sync_db_session: Session, sent_tasks: list[str]) -> None:
        publish_sync(sync_db_session, SHIPPED, PAYLOAD)
        sync_db_session.commit()
        assert sync_db_session.exec(select(MailMessage)).one().state == MailState.QUEUED
        assert len(sent_tasks) == 1

    async def test_are_kept_where_there_is_no_server(
        self, db_session: AsyncSession, sent_tasks: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        point_at(monkeypatch, 25, SMTP_HOST=None)
        await publish(db_session, SHIPPED, PAYLOAD)
        await db_session.commit()
        [mail] = await mails(db_session)
        assert mail.state == MailState.KEPT
        assert mail.subject == "Order 7 is on its way"
        assert sent_tasks == []
