"""Pages below `/mail`."""

import httpx
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.mail.models import MailMessage, MailState
from kit.testing import change_settings

OUTBOX = "/mail/outbox"


@pytest.fixture
async def mail(db_session: AsyncSession) -> MailMessage:
    mail = MailMessage(
        message_id="1@example.com",
        template="shop.order-shipped",
        to_address="ada@example.com",
        subject="Order <7>",
        text_body="Dear <Ada>",
        html_body="<p>Dear Ada</p><script>alert(1)</script>",
        state=MailState.KEPT,
    )
    db_session.add(mail)
    await db_session.commit()
    return mail


@pytest.mark.parametrize("path", ["", "/1", "/1/html"])
async def test_outside_local_there_is_nothing(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    change_settings(monkeypatch, ENVIRONMENT="staging")
    assert (await client.get(OUTBOX + path)).status_code == 404


@pytest.mark.parametrize("path", ["/9223372036854775807", "/9223372036854775807/html"])
async def test_unknown(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(OUTBOX + path)).status_code == 404


async def test_without_mails_it_says_so(client: httpx.AsyncClient) -> None:
    page = (await client.get(OUTBOX)).text
    assert "No mail has been written yet." in page
    assert "None leaves this machine before MAIL_SMTP_HOST is set." in page


async def test_lists_mails_escaped(client: httpx.AsyncClient, mail: MailMessage) -> None:
    page = (await client.get(OUTBOX)).text
    assert "Order &lt;7&gt;" in page
    assert "kept" in page


async def test_shows_a_mail_escaped(client: httpx.AsyncClient, mail: MailMessage) -> None:
    page = (await client.get(f"{OUTBOX}/{mail.id}")).text
    assert "Dear &lt;Ada&gt;" in page
    assert "<script>alert" not in page
    assert f"{OUTBOX}/{mail.id}/html" in page


async def test_html_comes_as_it_is_and_can_do_nothing(
    client: httpx.AsyncClient, mail: MailMessage
) -> None:
    answer = await client.get(f"{OUTBOX}/{mail.id}/html")
    assert answer.text == mail.html_body
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox allow-popups" in policy
    assert "allow-scripts" not in policy


async def test_is_no_part_of_the_api(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert not [path for path in paths if path.startswith(OUTBOX)]
