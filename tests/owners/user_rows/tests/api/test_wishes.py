"""Wishes over the API: users have their own, programs with a scope count all."""

from collections.abc import Callable

from httpx import AsyncClient

from kit.security import PROGRAMS, USERS, Principal

ADA = Principal(USERS, "00000000-0000-4000-8000-000000000001", "ada@example.com")
BOB = Principal(USERS, "00000000-0000-4000-8000-000000000002", "bob@example.com")
REPORTER = Principal(PROGRAMS, "1", "reporter", scopes=frozenset({"wishes:read"}))

CallAs = Callable[[Principal | None], None]


async def test_no_one_and_no_program_sees_wishes(client: AsyncClient, call_as: CallAs) -> None:
    for caller, status in ((None, 401), (REPORTER, 403)):
        call_as(caller)
        assert (await client.get("/api/wishes")).status_code == status


async def test_users_see_their_own_wishes(client: AsyncClient, call_as: CallAs) -> None:
    call_as(ADA)
    await client.post("/api/wishes", json={"text": "A boat"})
    assert [wish["text"] for wish in (await client.get("/api/wishes")).json()] == ["A boat"]

    call_as(BOB)
    assert (await client.get("/api/wishes")).json() == []


async def test_the_scope_opens_the_report(client: AsyncClient, call_as: CallAs) -> None:
    call_as(REPORTER)
    assert (await client.get("/api/wishes/report")).json() == {"wishes": 0}
