"""What a request costs where the database is far away: round trips, counted on the wire."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice

import httpx
import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlmodel import Session

from app.core.config import settings
from kit.security import create_api_token
from kit.security._credentials import ALL_SCOPES
from kit.settings import BASE_DIR
from kit.testing import own_database, run_api
from kit.tests.counting_link import CountingLink
from kit.tests.pgbouncer import pgbouncer

NOTES = "/api/example/notes"
POOL_SIZE = 3

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Service:
    """An API, the link to its database, and the database without the link."""

    client: httpx.Client
    link: CountingLink
    database: str

    def round_trips(
        self,
        method: str,
        path: str,
        body: dict[str, str] | None = None,
        tokens: Sequence[str] = ("",),
    ) -> int:
        """What the request costs once the first of its kind have been answered."""
        for token in islice(cycle(tokens), 2 * POOL_SIZE + 1):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            before = self.link.round_trips
            self.client.request(method, path, json=body, headers=headers).raise_for_status()
        return self.link.round_trips - before


@pytest.fixture(scope="module", params=["none", "transaction"])
def pooler(request: pytest.FixtureRequest) -> str:
    """The mode of the pooler between service and database."""
    return str(request.param)


@pytest.fixture(scope="module")
def service(pooler: str) -> Iterator[Service]:
    """An API on a database of its own, with or without a pooler before it."""
    with ExitStack() as stack:
        environment = stack.enter_context(own_database())
        direct = make_url(environment["DATABASE_URL"]).set(drivername="postgresql+psycopg2")
        if pooler != "none":
            behind = stack.enter_context(pgbouncer(pooler, pool_size=2 * POOL_SIZE))
            url = make_url(behind["DATABASE_URL"]).set(database=environment["POSTGRES_DB"])
            environment |= behind | {"DATABASE_URL": url.render_as_string(hide_password=False)}
        link = stack.enter_context(CountingLink(environment["DATABASE_URL"]))
        environment["DATABASE_URL"] = link.url.render_as_string(hide_password=False)
        environment |= {"POSTGRES_POOLER": pooler, "POSTGRES_POOL_SIZE": str(POOL_SIZE)}
        environment["POSTGRES_POOL_TIMEOUT"] = "60"  # it is about who waits, not for how long
        address = stack.enter_context(run_api(environment))
        client = stack.enter_context(httpx.Client(base_url=address, timeout=60))
        yield Service(client, link, direct.render_as_string(hide_password=False))


@pytest.fixture
def note(service: Service) -> str:
    created = service.client.post(NOTES, json={"title": "Shopping"}).raise_for_status()
    return f"{NOTES}/{created.json()['id']}"


@pytest.mark.parametrize("has_session", [False, True])
def test_a_read_needs_no_transaction(
    service: Service, pooler: str, note: str, has_session: bool
) -> None:
    # Behind a pooler no statement is kept prepared: one round trip prepares, one executes.
    expected = {"none": 1, "transaction": 2}[pooler]
    assert service.round_trips("GET", NOTES if has_session else note) == expected


def test_a_token_costs_one_statement_in_a_minute(service: Service, pooler: str, note: str) -> None:
    engine = create_engine(service.database)
    with Session(engine) as session:
        names = [f"{note}-{number}" for number in range(2 * POOL_SIZE + 1)]
        tokens = [create_api_token(session, name, scopes=[ALL_SCOPES]) for name in names]
        session.commit()
    engine.dispose()
    first = service.round_trips("GET", note, tokens=tokens)
    again = service.round_trips("GET", note, tokens=tokens[-1:])
    assert first - again == {"none": 1, "transaction": 2}[pooler]


@pytest.mark.skipif(
    settings.ENABLED_EXTENSIONS != ["_example"],
    reason="other extensions may listen to its message and write in the same transaction",
)
def test_a_write_is_one_transaction(service: Service, pooler: str) -> None:
    expected = {"none": 3, "transaction": 4}[pooler]  # BEGIN, INSERT … RETURNING, COMMIT
    assert service.round_trips("POST", NOTES, {"title": "Shopping"}) == expected


def test_many_callers_share_the_pool(service: Service, note: str) -> None:
    made_before = service.link.connections
    with ThreadPoolExecutor(4 * POOL_SIZE) as callers:
        answers = list(callers.map(lambda _: service.client.get(note), range(200)))
    assert {answer.status_code for answer in answers} == {200}
    assert service.link.connections - made_before < POOL_SIZE


ROWS_OF_A_TASK = """
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import select

from app.core.database import sync_session_maker
from kit.models import AuditAction, AuditEntry

with sync_session_maker() as session:
    session.add_all([AuditEntry(action=AuditAction.ACTION, actor="a") for _ in range(500)])
    session.flush()
    for entry in session.exec(select(AuditEntry).where(AuditEntry.actor == "a")):
        entry.actor = "b"
    session.flush()
    entries = [{"action": AuditAction.ACTION, "actor": "b"} for _ in range(500)]
    session.execute(insert(AuditEntry).on_conflict_do_nothing(), entries)
    assert len(session.exec(select(AuditEntry).where(AuditEntry.actor == "b")).all()) == 1000
    session.rollback()
"""


def test_many_rows_of_a_task_cost_few_round_trips(service: Service) -> None:
    """Not one for each row that is changed, or stored with ON CONFLICT."""
    environment = os.environ | {"DATABASE_URL": service.link.url.render_as_string(False)}
    before = service.link.round_trips
    command = [sys.executable, "-c", ROWS_OF_A_TASK]
    subprocess.run(command, cwd=BASE_DIR, env=environment, check=True)
    assert service.link.round_trips - before < 40
