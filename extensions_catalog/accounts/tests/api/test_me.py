"""Routes below `/api/accounts`."""

from collections.abc import Callable

import httpx
import pytest
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.accounts.models import AccountsProfile
from app.extensions.accounts.tests.supabase_project import USER_ID, SupabaseProject
from kit.security import USERS, Principal
from kit.testing import change_settings

ME = "/api/accounts/me"

pytestmark = pytest.mark.usefixtures("users")


@pytest.fixture
def ada(client: httpx.AsyncClient, project: SupabaseProject) -> httpx.AsyncClient:
    """A client that sends Ada's access token."""
    client.headers["Authorization"] = f"Bearer {project.token()}"
    return client


class TestReadProfile:
    async def test_strangers_see_nothing(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, ENVIRONMENT="production")
        assert (await client.get(ME)).status_code == 401

    async def test_a_program_is_no_user(self, client: httpx.AsyncClient, api_token: str) -> None:
        answer = await client.get(ME, headers={"Authorization": f"Bearer {api_token}"})
        assert answer.status_code == 403
        assert "it serves users, anonymous users" in answer.json()["detail"]

    async def test_a_developer_without_token_is_no_user(self, client: httpx.AsyncClient) -> None:
        assert (await client.get(ME)).status_code == 403

    async def test_a_profile_that_was_deleted_a_moment_ago(
        self, ada: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        await ada.get(ME)
        await db_session.delete((await db_session.exec(select(AccountsProfile))).one())
        await db_session.commit()
        assert (await ada.get(ME)).status_code == 404

    async def test_the_first_call_finds_it_already(self, ada: httpx.AsyncClient) -> None:
        answer = await ada.get(ME)
        assert answer.status_code == 200, answer.text
        profile = answer.json()
        assert profile["id"] == str(USER_ID)
        assert profile["email"] == "ada@example.com"
        assert profile["display_name"] is None
        assert profile["created_at"] == profile["last_seen_at"]

    async def test_each_user_sees_their_own(
        self, ada: httpx.AsyncClient, project: SupabaseProject
    ) -> None:
        await ada.get(ME)
        other = project.token(sub="00000000-0000-4000-8000-000000000001", email="bob@example.com")
        answer = await ada.get(ME, headers={"Authorization": f"Bearer {other}"})
        assert answer.json()["email"] == "bob@example.com"

    async def test_a_user_without_a_token_has_the_profile_that_a_test_adds(
        self,
        client: httpx.AsyncClient,
        call_as: Callable[[Principal], None],
        db_session: AsyncSession,
    ) -> None:
        call_as(Principal(USERS, str(USER_ID), "ada@example.com"))
        assert (await client.get(ME)).status_code == 404
        db_session.add(AccountsProfile(id=USER_ID))
        await db_session.commit()
        assert (await client.get(ME)).json()["id"] == str(USER_ID)

    async def test_one_of_another_provider_is_refused_where_ids_are_no_uuids(
        self, client: httpx.AsyncClient, call_as: Callable[[Principal], None]
    ) -> None:
        call_as(Principal(USERS, "ada", "ada@example.com"))
        assert (await client.get(ME)).status_code == 403


class TestUpdateProfile:
    @pytest.mark.parametrize("name", ["", "x" * 101, 7])
    async def test_refuses_what_does_not_fit(self, ada: httpx.AsyncClient, name: object) -> None:
        answer = await ada.patch(ME, json={"display_name": name})
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/display_name"]

    async def test_a_developer_without_token_is_no_user(self, client: httpx.AsyncClient) -> None:
        assert (await client.patch(ME, json={"display_name": "x"})).status_code == 403

    async def test_changes_the_name_and_nothing_else(
        self, ada: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        sent = {"display_name": "Ada L.", "email": "eve@example.com", "id": "x"}
        answer = await ada.patch(ME, json=sent)
        assert answer.status_code == 200, answer.text
        assert answer.json()["display_name"] == "Ada L."
        kept = (await db_session.exec(select(AccountsProfile))).one()
        assert (kept.id, kept.email, kept.display_name) == (USER_ID, "ada@example.com", "Ada L.")

    async def test_what_is_left_out_stays(self, ada: httpx.AsyncClient) -> None:
        await ada.patch(ME, json={"display_name": "Ada L."})
        assert (await ada.patch(ME, json={})).json()["display_name"] == "Ada L."
        assert (await ada.patch(ME, json={"display_name": None})).json()["display_name"] is None


async def test_the_documentation_says_which_token_it_takes(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert {"Access token": []} in document["paths"][ME]["get"]["security"]
    assert {"name": "Accounts", "tags": ["Profile"]} in document["x-tagGroups"]
