"""Users of an API that runs as it does in production, in processes of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from app.extensions.accounts.tests.supabase_project import USER_ID, SupabaseProject
from kit.testing import own_database, run_api

pytestmark = pytest.mark.slow


@pytest.fixture
def api(project: SupabaseProject) -> Iterator[httpx.Client]:
    """An API process that has one connection for all requests."""
    settings = {"ACCOUNTS_SUPABASE_URL": project.url, "POSTGRES_POOL_SIZE": "1"}
    with (
        own_database() as environment,
        run_api(environment | settings) as address,
        httpx.Client(base_url=address, timeout=20) as client,
    ):
        yield client


def test_while_keys_are_fetched_others_are_served(
    api: httpx.Client, project: SupabaseProject
) -> None:
    bearer = {"Authorization": f"Bearer {project.token()}"}
    with ThreadPoolExecutor(20) as threads:
        with project.answers_held_back():
            waiting = [
                threads.submit(api.get, "/api/accounts/me", headers=bearer) for _ in range(20)
            ]
            project.wait_for_fetches(1)
            # Neither the event loop nor the one connection is held meanwhile.
            others = [api.get("/api/example/notes") for _ in range(5)]
            assert not any(request.done() for request in waiting)
        answers = [request.result() for request in waiting]

    assert [answer.status_code for answer in others] == [200] * 5
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["id"] for answer in answers} == {str(USER_ID)}
    # What all of them waited for was fetched once.
    assert len(project.fetches) == 1
