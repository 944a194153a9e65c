"""Routes below `/api/mail/messages`, and `/api/mail/test`."""

import httpx
import pytest
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.config import settings
from app.extensions.mail.models import MailMessage, MailState
from app.extensions.mail.settings import mail_settings
from app.extensions.mail.tests.mail_server import point_at
from kit.testing import change_settings

MAILS = "/api/mail/messages"


@pytest.fixture
async def mails(db_session: AsyncSession) -> list[MailMessage]:
    states = [MailState.SENT, MailState.FAILED, MailState.SENT]
    mails = [
        MailMessage(
            message_id=f"{number}@example.com",
            template="shop.order-shipped",
            to_address="ada@example.com",
            subject=f"Order {number}",
            text_body="a link that opens the order",
            state=state,
        )
        for number, state in enumerate(states)
    ]
    db_session.add_all(mails)
    await db_session.commit()
    return mails


@pytest.mark.parametrize(("method", "path"), [("GET", MAILS), ("POST", "/api/mail/test")])
async def test_outside_local_a_principal_is_needed(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    change_settings(monkeypatch, ENVIRONMENT="production")
    answer = await client.request(method, path, json={"to": "ada@example.com"})
    assert answer.status_code == 401


class TestListMails:
    @pytest.mark.parametrize("query", [{"after": -1}, {"after": 2**63}, {"state": "lost"}])
    async def test_refuses_what_cannot_be(
        self, client: httpx.AsyncClient, query: dict[str, str]
    ) -> None:
        assert (await client.get(MAILS, params=query)).status_code == 422

    async def test_comes_in_pages(
        self,
        client: httpx.AsyncClient,
        mails: list[MailMessage],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        change_settings(monkeypatch, mail_settings, PAGE_SIZE=2)
        first = (await client.get(MAILS)).json()
        assert [mail["subject"] for mail in first] == ["Order 0", "Order 1"]
        second = (await client.get(MAILS, params={"after": first[-1]["id"]})).json()
        assert [mail["subject"] for mail in second] == ["Order 2"]

    async def test_of_one_state(self, client: httpx.AsyncClient, mails: list[MailMessage]) -> None:
        found = (await client.get(MAILS, params={"state": "failed"})).json()
        assert [mail["subject"] for mail in found] == ["Order 1"]


class TestReadMail:
    @pytest.mark.parametrize("mail_id", ["0", "x", "9223372036854775808"])
    async def test_refuses_an_id_that_cannot_be(
        self, client: httpx.AsyncClient, mail_id: str
    ) -> None:
        assert (await client.get(f"{MAILS}/{mail_id}")).status_code == 422

    async def test_unknown(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(f"{MAILS}/9223372036854775807")
        assert answer.status_code == 404
        assert answer.json()["detail"] == "There is no mail 9223372036854775807."

    async def test_tells_what_became_of_it_and_not_what_it_says(
        self, client: httpx.AsyncClient, mails: list[MailMessage]
    ) -> None:
        answer = await client.get(f"{MAILS}/{mails[1].id}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "failed"
        assert answer.json()["message_id"] == "1@example.com"
        assert "a link" not in answer.text


class TestSendTestMail:
    @pytest.mark.parametrize("values", [{}, {"to": "ada"}, {"to": "a@b.co\r\nBcc: c@d.co"}])
    async def test_refuses_what_is_no_address(
        self, client: httpx.AsyncClient, db_session: AsyncSession, values: dict[str, str]
    ) -> None:
        assert (await client.post("/api/mail/test", json=values)).status_code == 422
        assert (await db_session.exec(select(MailMessage))).all() == []

    async def test_queues_a_mail(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        sent_tasks: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        point_at(monkeypatch, 25)
        answer = await client.post("/api/mail/test", json={"to": "ada@EXAMPLE.com"})
        assert answer.status_code == 202, answer.text
        assert answer.json() == {"to": "ada@example.com"}
        mail = (await db_session.exec(select(MailMessage))).one()
        assert (mail.state, mail.to_address) == (MailState.QUEUED, "ada@example.com")
        assert mail.subject == f"{settings.PROJECT_NAME} can send mail"
        assert mail.html_body is not None
        assert len(sent_tasks) == 1
