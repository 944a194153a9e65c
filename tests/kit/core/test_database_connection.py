"""Each failure to connect is one line: what is wrong, where it is set, what to do."""

import socket
from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.core.config import StartupError, settings
from kit.database import connect
from kit.migrations import init_db
from kit.testing import change_settings
from kit.testing._databases import alembic


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken, so nobody else gets it, but that nobody listens on."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield int(reserved.getsockname()[1])


async def refusal() -> str:
    with pytest.raises(StartupError) as error:
        await init_db()
    message = str(error.value)
    assert "\n" not in message
    return message


async def test_a_connection_that_works_is_closed_at_the_end(test_database: str) -> None:
    async with connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    assert connection.closed


async def test_wrong_password(test_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change_settings(monkeypatch, POSTGRES_PASSWORD=SecretStr("wrong"))

    message = await refusal()

    assert f"refuses the login of '{settings.POSTGRES_USER}'" in message
    assert "(password authentication failed for user" in message
    assert "(set in " in message
    assert "wrong" not in message.replace("wrong password", "")


async def test_missing_database(test_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change_settings(monkeypatch, POSTGRES_DB="no_such_database_test")

    assert "has no database 'no_such_database_test'. Create it with `createdb" in await refusal()


async def test_nobody_listens(
    test_database: str, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    change_settings(monkeypatch, POSTGRES_PORT=closed_port)

    message = await refusal()

    assert f":{closed_port} cannot be reached" in message
    assert "Start it, or correct" in message


async def test_unknown_host(test_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change_settings(monkeypatch, POSTGRES_HOST="no-such-host.invalid")

    assert "no-such-host.invalid" in await refusal()


@pytest.mark.slow
async def test_no_answer(test_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that drops what it does not like: here a server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        change_settings(monkeypatch, POSTGRES_HOST="127.0.0.1")
        change_settings(monkeypatch, POSTGRES_PORT=silent.getsockname()[1])
        arguments = {**settings.database_connect_args, "timeout": 0.3}

        with pytest.raises(StartupError, match="no answer in time"):
            async with connect(connect_args=arguments):
                pass


async def test_no_tls(test_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change_settings(monkeypatch, POSTGRES_SSLMODE="require")

    assert "offers no TLS" in await refusal()


@pytest.mark.slow
def test_alembic_ends_with_that_line_and_no_stack_trace(test_database: str) -> None:
    outcome = alembic("no_such_database_test", "current")

    assert outcome.status == 1
    assert outcome.output.startswith("error: PostgreSQL at ")
    assert len(outcome.output.strip().splitlines()) == 1
