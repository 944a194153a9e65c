from collections.abc import Iterator
from typing import Any

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.accounts import principals
from app.extensions.accounts.access_tokens import AccessTokenVerifier
from app.extensions.accounts.profiles import recent_sightings
from app.extensions.accounts.signing_keys import SigningKeys
from app.extensions.accounts.tests.supabase_project import SupabaseProject
from kit.security import create_api_token


class Clock:
    """Replaces the clock by which fetched keys become stale."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def project() -> Iterator[SupabaseProject]:
    """A project that serves its keys while the test runs."""
    with SupabaseProject() as project:
        yield project


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(project: SupabaseProject, clock: Clock) -> SigningKeys:
    return SigningKeys(project.jwks_url, cache_seconds=600, stale_seconds=3600, clock=clock)


@pytest.fixture
def verifier(project: SupabaseProject, keys: SigningKeys) -> AccessTokenVerifier:
    return AccessTokenVerifier(
        issuer=project.issuer, audience="authenticated", oauth_clients=(), keys=keys
    )


@pytest.fixture
def users(
    session_makers: None, verifier: AccessTokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Enable the project's users; their profiles are in the test's transaction."""
    monkeypatch.setattr(principals, "verifier", verifier)
    recent_sightings.clear()
    yield
    recent_sightings.clear()


@pytest.fixture
async def api_token(db_session: AsyncSession) -> str:
    """An API token, as programs have it."""

    def create(session: Any) -> str:
        return create_api_token(session, "billing-job")

    token = await db_session.run_sync(create)
    await db_session.commit()
    return token
