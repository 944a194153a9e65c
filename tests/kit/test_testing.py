"""What tests are refused that would disturb others, or cannot work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlmodel import Session, text

from app.core.celery import celery_app
from app.core.config import BASE_DIR
from app.core.database import engine, sync_session_maker
from app.main import app
from kit.testing import BASE_DATABASE

FAILED: type[BaseException] = pytest.fail.Exception


class TestWithoutAFixture:
    def test_a_sync_session_is_refused(self) -> None:
        with sync_session_maker() as session, pytest.raises(FAILED, match="has no fixture"):
            session.connection()

    async def test_an_async_connection_is_refused(self) -> None:
        with pytest.raises(FAILED, match="Take `sync_db_session` for a task"):
            async with engine.connect():
                pass


def test_with_one_a_session_is_in_its_transaction(sync_db_session: Session) -> None:
    own = text("SELECT pg_current_xact_id()::text")
    expected = sync_db_session.execute(own).one()
    with sync_session_maker() as session:
        assert session.execute(own).one() == expected


def test_a_started_service_beside_the_test_s_sessions_is_refused(session_makers: None) -> None:
    with pytest.raises(RuntimeError, match="a TestClient that starts"), TestClient(app):
        pass


def test_a_setting_of_celery_is_taken_back() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(celery_app.conf, "task_always_eager", True)
        assert celery_app.conf.task_always_eager
    assert not celery_app.conf.task_always_eager


PROBE = """
import sys

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart():
    assert "app.main" not in sys.modules
"""


@pytest.mark.slow
def test_the_service_is_imported_after_pytest_cov_has_begun(tmp_path: Path) -> None:
    """Which begins with the session in a process that runs tests for another."""
    (tmp_path / "probe.py").write_text(PROBE)
    command = [sys.executable, "-m", "pytest", "-p", "probe", "--collect-only", "-q", "tests/api"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("processes", [0, 2])
def test_why_there_is_no_server_is_said_without_a_traceback(processes: int) -> None:
    options = ["-q", "-p", "no:cacheprovider", f"--numprocesses={processes}"]
    chosen = {BASE_DATABASE, "DATABASE_URL", "POSTGRES_HOST"}
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/test_architecture.py"],
        cwd=BASE_DIR,
        env=environment | {"PG_BINDIR": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == pytest.ExitCode.INTERRUPTED, run.stdout + run.stderr
    assert "PG_BINDIR is /nowhere, but" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
    assert "Interrupted: there is no server for the tests" in run.stdout
