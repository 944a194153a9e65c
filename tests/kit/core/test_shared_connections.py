import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.config import BASE_DIR, settings
from kit.database._shared_connections import share_connections, take_turn
from kit.process._name import Role, this_process

TAKE_A_TURN = """
import sys, time
from kit.database._shared_connections import take_turn
turn = take_turn(1, timeout=5)
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock files of the test's own, here and in the processes it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


class TestTakeTurn:
    def test_no_more_than_there_are(self) -> None:
        first, second = take_turn(2, timeout=0), take_turn(2, timeout=0)
        with pytest.raises(PoolTimeoutError, match=r"all 2 connections .*POSTGRES_SYNC_POOL_SIZE"):
            take_turn(2, timeout=0.1)
        first.close()
        take_turn(2, timeout=0).close()
        second.close()

    @pytest.mark.slow
    def test_a_process_that_is_killed_gives_its_turn_back(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE_A_TURN], cwd=BASE_DIR, stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "taken\n"
            with pytest.raises(PoolTimeoutError):
                take_turn(1, timeout=0)
            process.kill()
        take_turn(1, timeout=0).close()


@pytest.fixture
def engine(test_database: str) -> Iterator[Callable[..., Engine]]:
    """Engines on the test database, as each process has one, that share one connection."""
    with ExitStack() as stack:

        def make(timeout: float = 0.1, port: int | None = None) -> Engine:
            made = create_engine(
                settings.SYNC_DATABASE_URL,
                connect_args=settings.sync_connect_args | ({"port": port} if port else {}),
                pool_size=1,
                max_overflow=0,
                pool_timeout=timeout,
            )
            stack.callback(made.dispose)
            one = settings.model_copy(update={"POSTGRES_SYNC_POOL_SIZE": 1})
            share_connections(made, one, timeout=timeout)
            return made

        yield make


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Callable[[Role], None]:
    return lambda role: monkeypatch.setattr(this_process, "role", role)


class TestApiProcesses:
    @pytest.fixture(autouse=True)
    def is_the_api(self, role: Callable[[Role], None]) -> None:
        role("api")

    def test_they_take_turns(self, engine: Callable[..., Engine]) -> None:
        first, second = engine(), engine()
        for each in (first, second, first):
            with each.connect() as connection:
                assert connection.scalar(text("SELECT 1")) == 1

    @pytest.mark.slow
    def test_one_waits_for_another_and_then_gets_a_clear_error(
        self, engine: Callable[..., Engine]
    ) -> None:
        first, second = engine(), engine()
        with first.connect():
            began = time.monotonic()
            with pytest.raises(PoolTimeoutError, match="share for the admin"):
                second.connect()
            assert 0.1 <= time.monotonic() - began < 1

    def test_a_failed_attempt_gives_its_turn_back(self, engine: Callable[..., Engine]) -> None:
        with pytest.raises((OperationalError, psycopg2.OperationalError)):
            engine(port=9).connect()
        engine().connect().close()

    def test_a_connection_that_broke_gives_its_turn_back(
        self, engine: Callable[..., Engine]
    ) -> None:
        connection = engine().connect()
        connection.invalidate()
        engine().connect().close()


@pytest.mark.parametrize("role_name", ["worker", "command"])
def test_other_processes_keep_a_connection_each(
    engine: Callable[..., Engine], role: Callable[[Role], None], role_name: Role
) -> None:
    role(role_name)
    first, second = engine(), engine()
    with first.connect() as connection:
        before = connection.scalar(text("SELECT pg_backend_pid()"))
        second.connect().close()
    with first.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) == before
