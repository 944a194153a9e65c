"""Profiles in the admin."""

from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest
from sqlmodel import Session, select

from app.extensions.accounts.models import AccountsProfile

LIST = "/admin/accounts-profile/list"
USER_ID = UUID("5d2f7a1e-8c43-4b7e-9d6a-1f0b3c5e7a90")


async def test_strangers_see_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get(LIST)
    assert answer.status_code == 302
    assert "/admin/login" in answer.headers["location"]


@pytest.fixture
def profile(sync_db_session: Session) -> AccountsProfile:
    profile = AccountsProfile(
        id=USER_ID, email="ada@example.com", last_seen_at=datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
    )
    sync_db_session.add(profile)
    sync_db_session.commit()
    return profile


async def test_profiles_are_not_made_here(admin_client: httpx.AsyncClient) -> None:
    assert (await admin_client.get("/admin/accounts-profile/create")).status_code == 403


async def test_lists_profiles(admin_client: httpx.AsyncClient, profile: AccountsProfile) -> None:
    page = (await admin_client.get(LIST)).text
    assert "ada@example.com" in page
    assert "1 Nov 2026, 08:30 UTC" in page


async def test_searches_addresses(
    admin_client: httpx.AsyncClient, profile: AccountsProfile
) -> None:
    assert "ada@example.com" in (await admin_client.get(LIST, params={"search": "ADA@"})).text
    assert "ada@example.com" not in (await admin_client.get(LIST, params={"search": "bob"})).text


async def test_filters_by_last_sight(
    admin_client: httpx.AsyncClient, profile: AccountsProfile
) -> None:
    on_the_day = {"last_seen_at": "2026-11-01..2026-11-01"}
    assert "ada@example.com" in (await admin_client.get(LIST, params=on_the_day)).text
    later = {"last_seen_at": "2026-11-02.."}
    assert "ada@example.com" not in (await admin_client.get(LIST, params=later)).text


async def test_shows_one(admin_client: httpx.AsyncClient, profile: AccountsProfile) -> None:
    answer = await admin_client.get(f"/admin/accounts-profile/details/{USER_ID}")
    assert answer.status_code == 200
    assert "ada@example.com" in answer.text


async def test_changes_the_name_and_nothing_else(
    admin_client: httpx.AsyncClient, sync_db_session: Session, profile: AccountsProfile
) -> None:
    answer = await admin_client.post(
        f"/admin/accounts-profile/edit/{USER_ID}",
        data={"display_name": "Ada L.", "email": "eve@example.com"},
    )
    assert answer.status_code == 302, answer.text
    sync_db_session.refresh(profile)
    assert (profile.display_name, profile.email) == ("Ada L.", "ada@example.com")


async def test_deletes_one(
    admin_client: httpx.AsyncClient, sync_db_session: Session, profile: AccountsProfile
) -> None:
    answer = await admin_client.delete(
        "/admin/accounts-profile/delete", params={"pks": str(USER_ID)}
    )
    assert answer.status_code == 200, answer.text
    sync_db_session.expire_all()
    assert sync_db_session.exec(select(AccountsProfile)).all() == []
