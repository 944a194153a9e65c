"""The outbox and the suppressed addresses in the admin."""

import httpx
import pytest
from sqlmodel import Session, select

from app.extensions.mail.models import MailMessage, MailState, MailSuppression
from app.extensions.mail.tests.mail_server import point_at

OUTBOX = "/admin/mail-message"
SUPPRESSED = "/admin/mail-suppression"


@pytest.fixture
def mail(sync_db_session: Session) -> MailMessage:
    return add_mail(sync_db_session)


def add_mail(session: Session, **values: object) -> MailMessage:
    mail = MailMessage(
        message_id="1@example.com",
        template="shop.order-shipped",
        to_address="ada@example.com",
        subject="Order 7",
        text_body="Dear <Ada>",
        html_body="<p>Dear Ada</p>",
        state=MailState.SENT,
        attempts=1,
    )
    for name, value in values.items():
        setattr(mail, name, value)
    session.add(mail)
    session.commit()
    return mail


@pytest.mark.parametrize("path", [f"{OUTBOX}/list", f"{OUTBOX}/html/1", f"{SUPPRESSED}/list"])
async def test_strangers_see_nothing(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 302
    assert "/admin/login" in answer.headers["location"]


class TestOutbox:
    async def test_lists_mails(self, admin_client: httpx.AsyncClient, mail: MailMessage) -> None:
        answer = await admin_client.get(f"{OUTBOX}/list")
        assert answer.status_code == 200
        assert "Order 7" in answer.text

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"search": "ada@"}, True),
            ({"search": "bob"}, False),
            ({"state": "SENT"}, True),
            ({"state": "FAILED"}, False),
        ],
    )
    async def test_finds_mails(
        self,
        admin_client: httpx.AsyncClient,
        mail: MailMessage,
        query: dict[str, str],
        found: bool,
    ) -> None:
        answer = await admin_client.get(f"{OUTBOX}/list", params=query)
        assert ("Order 7" in answer.text) is found

    async def test_shows_a_mail_with_its_html_in_a_frame(
        self, admin_client: httpx.AsyncClient, mail: MailMessage
    ) -> None:
        page = (await admin_client.get(f"{OUTBOX}/details/{mail.id}")).text
        assert "<pre>Dear &lt;Ada&gt;</pre>" in page
        assert f'<iframe src="../html/{mail.id}" sandbox' in page

    async def test_html_can_do_nothing(
        self, admin_client: httpx.AsyncClient, mail: MailMessage
    ) -> None:
        answer = await admin_client.get(f"{OUTBOX}/html/{mail.id}")
        assert answer.text == "<p>Dear Ada</p>"
        assert "sandbox allow-popups" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]

    @pytest.mark.parametrize("key", ["77", "x", "9" * 5000])
    async def test_html_of_an_unknown_mail(self, admin_client: httpx.AsyncClient, key: str) -> None:
        assert (await admin_client.get(f"{OUTBOX}/html/{key}")).status_code == 404

    @pytest.mark.parametrize("path", ["create", "edit/1", "delete"])
    async def test_nobody_writes_mails_here(
        self, admin_client: httpx.AsyncClient, mail: MailMessage, path: str
    ) -> None:
        answer = await admin_client.get(f"{OUTBOX}/{path}")
        assert answer.status_code in {403, 405}


class TestSendAgain:
    @pytest.fixture
    def with_server(self, monkeypatch: pytest.MonkeyPatch, sent_tasks: list[str]) -> list[str]:
        """Tasks that would have been sent, where a server is configured."""
        point_at(monkeypatch, 25)
        return sent_tasks

    async def send_again(
        self, client: httpx.AsyncClient, session: Session, mail: MailMessage
    ) -> str:
        """State of the mail afterwards."""
        action = f"{OUTBOX}/action/send-again"
        answer = await client.get(action, params={"pks": str(mail.id)})
        assert answer.status_code == 303, answer.text
        session.expire_all()
        session.refresh(mail)
        return mail.state

    async def test_keys_that_are_none(self, admin_client: httpx.AsyncClient) -> None:
        answer = await admin_client.get(f"{OUTBOX}/action/send-again", params={"pks": "1;2"})
        assert answer.status_code == 400

    @pytest.mark.parametrize("state", [MailState.QUEUED, MailState.SENDING, MailState.SENT])
    async def test_not_what_is_sent_or_about_to_be(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        with_server: list[str],
        state: MailState,
    ) -> None:
        mail = add_mail(sync_db_session, state=state)
        assert await self.send_again(admin_client, sync_db_session, mail) == state
        assert (mail.attempts, with_server) == (1, [])

    @pytest.mark.parametrize(
        "state", [MailState.FAILED, MailState.BOUNCED, MailState.SUPPRESSED, MailState.KEPT]
    )
    async def test_queues_what_was_not_sent(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        with_server: list[str],
        state: MailState,
    ) -> None:
        mail = add_mail(sync_db_session, state=state, error="450 later")
        assert await self.send_again(admin_client, sync_db_session, mail) == MailState.QUEUED
        assert (mail.attempts, mail.error, len(with_server)) == (0, "", 1)

    async def test_without_a_server_it_is_kept(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session, sent_tasks: list[str]
    ) -> None:
        mail = add_mail(sync_db_session, state=MailState.FAILED)
        assert await self.send_again(admin_client, sync_db_session, mail) == MailState.KEPT
        assert sent_tasks == []

    @pytest.mark.parametrize(
        ("payload", "state", "text"),
        [
            (
                {"order": 7, "name": "Ada", "day": "Monday"},
                MailState.QUEUED,
                "Dear Ada,\nit comes on Monday.\n",
            ),
            ({"order": 7}, MailState.FAILED, None),
        ],
        ids=["mended", "still broken"],
    )
    @pytest.mark.usefixtures("with_server")
    async def test_makes_what_could_not_be_made_before(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        payload: dict[str, object],
        state: MailState,
        text: str | None,
    ) -> None:
        unmade = {"text_body": None, "html_body": None, "payload": payload}
        mail = add_mail(sync_db_session, state=MailState.FAILED, **unmade)
        assert await self.send_again(admin_client, sync_db_session, mail) == state
        assert mail.text_body == text


class TestSuppressedAddresses:
    async def test_an_address_is_kept_as_mails_are_compared_with_it(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        data = {"address": "Ada@EXAMPLE.com", "reason": "asked for it by phone"}
        answer = await admin_client.post(f"{SUPPRESSED}/create", data=data)
        assert answer.status_code == 302, answer.text
        assert sync_db_session.exec(select(MailSuppression)).one().address == "ada@example.com"

    async def test_what_is_no_address_is_refused(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        answer = await admin_client.post(
            f"{SUPPRESSED}/create", data={"address": "ada", "reason": ""}
        )
        assert answer.status_code == 400
        assert "must have an @-sign" in answer.text
        assert sync_db_session.exec(select(MailSuppression)).all() == []

    async def test_one_can_be_taken_away(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        suppression = MailSuppression(address="ada@example.com")
        sync_db_session.add(suppression)
        sync_db_session.commit()
        answer = await admin_client.delete(
            f"{SUPPRESSED}/delete", params={"pks": str(suppression.id)}
        )
        assert answer.status_code == 200, answer.text
        assert sync_db_session.exec(select(MailSuppression)).all() == []
