"""Messages over the API."""

import httpx
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.messenger.models import Direction, MessageState, MessengerMessage
from app.extensions.messenger.settings import messenger_settings
from kit.testing import change_settings

URL = "/api/messenger/messages"


@pytest.fixture
async def conversations(db_session: AsyncSession) -> list[int]:
    """Ids of a message of 11, one of 22 and an answer to 11."""
    rows = [
        MessengerMessage(direction=direction, psid=psid, text="hello", state=state)
        for direction, psid, state in (
            (Direction.IN, "11", MessageState.RECEIVED),
            (Direction.IN, "22", MessageState.RECEIVED),
            (Direction.OUT, "11", MessageState.SENT),
        )
    ]
    for row in rows:
        db_session.add(row)
        await db_session.commit()
    return [row.id for row in rows if row.id is not None]


class TestReplies:
    @pytest.mark.parametrize(
        "values",
        [
            {"recipient_id": "11", "text": ""},
            {"recipient_id": "11", "text": "x" * 2001},
            {"recipient_id": "ada", "text": "hello"},
            {"recipient_id": "1" * 65, "text": "hello"},
            {"text": "hello"},
        ],
    )
    async def test_that_cannot_be_sent_are_refused(
        self, client: httpx.AsyncClient, values: dict[str, str]
    ) -> None:
        assert (await client.post(URL, json=values)).status_code == 422

    async def test_are_queued_and_a_worker_is_told(
        self, client: httpx.AsyncClient, sent_tasks: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer = await client.post(URL, json={"recipient_id": "11", "text": "Yes!"})
        assert answer.status_code == 202, answer.text
        assert answer.json()["state"] == "queued"
        [listed] = (await client.get(URL)).json()
        assert listed == answer.json()
        assert (listed["psid"], listed["text"], listed["direction"]) == ("11", "Yes!", "out")

    async def test_are_kept_where_no_page_is_configured(
        self, client: httpx.AsyncClient, sent_tasks: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, messenger_settings, PAGE_TOKEN=None)
        answer = await client.post(URL, json={"recipient_id": "11", "text": "Yes!"})
        assert answer.json()["state"] == "kept"
        assert sent_tasks == []


class TestList:
    async def test_is_paged_by_key(
        self,
        client: httpx.AsyncClient,
        conversations: list[int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        change_settings(monkeypatch, messenger_settings, PAGE_SIZE=2)
        first = (await client.get(URL)).json()
        assert [each["id"] for each in first] == conversations[:2]
        rest = (await client.get(URL, params={"after": first[-1]["id"]})).json()
        assert [each["id"] for each in rest] == conversations[2:]

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [({"psid": "11"}, [0, 2]), ({"direction": "in"}, [0, 1]), ({"psid": "33"}, [])],
    )
    async def test_is_narrowed(
        self,
        client: httpx.AsyncClient,
        conversations: list[int],
        asked: dict[str, str],
        expected: list[int],
    ) -> None:
        listed = (await client.get(URL, params=asked)).json()
        assert [each["id"] for each in listed] == [conversations[number] for number in expected]

    @pytest.mark.parametrize("asked", [{"after": -1}, {"after": 2**63}, {"psid": "a"}])
    async def test_refuses_what_is_no_key(
        self, client: httpx.AsyncClient, asked: dict[str, str]
    ) -> None:
        assert (await client.get(URL, params=asked)).status_code == 422
