"""What a downgrade asks before it takes more than was named."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from app.core.config import StartupError
from kit.database import connect
from kit.migrations import init_db
from kit.migrations._branches import ALEMBIC_DIR
from kit.migrations._env import confirm_downgrade
from kit.settings import BASE_DIR
from kit.testing._databases import alembic, catalogue
from kit.testing._processes import own_database


def write_revision(folder: Path, *fields: object) -> None:
    names = ("revision", "down_revision", "branch_labels", "depends_on")
    lines = [f"{name} = {field!r}" for name, field in zip(names, fields, strict=True)]
    (folder / f"{fields[0]}.py").write_text("\n".join([f'"""Say {fields[0]}."""', *lines]))


@pytest.fixture
def script(tmp_path: Path) -> ScriptDirectory:
    """Core, two extensions on it, and a service of which the second revision needs the hotel."""
    for fields in (
        ("core_0001", None, "core", None),
        ("hotel_0001", None, "hotel", "core_0001"),
        ("inn_0001", None, "inn", "core_0001"),
        ("aaa", None, "service", "core_0001"),
        ("bbb", "aaa", None, "hotel_0001"),
    ):
        write_revision(tmp_path, *fields)
    return ScriptDirectory(ALEMBIC_DIR, version_locations=[tmp_path])


class Terminal(io.StringIO):
    """Standard input of somebody who sits before it."""

    def isatty(self) -> bool:
        return True


def test_one_step_back_is_refused_where_several_branches_are_applied(
    script: ScriptDirectory,
) -> None:
    with pytest.raises(StartupError) as refusal:
        confirm_downgrade(script, ["aaa", "inn_0001"], "-1", is_confirmed=True)

    assert "several branches are applied: inn, service" in str(refusal.value)
    assert "`make db-downgrade extension=inn`" in str(refusal.value)
    assert "`make db-downgrade`" in str(refusal.value)


@pytest.mark.parametrize(
    ("rows", "target"),
    [
        (["bbb"], "-1"),
        (["bbb", "inn_0001"], "service@-1"),
        (["bbb", "inn_0001"], "inn@base"),
        (["bbb", "inn_0001"], "aaa"),
        ([], "base"),
        (["inn_0001"], "hotel@base"),
        # Alembic refuses these itself.
        ([], "-1"),
        (["inn_0001"], "nobody@base"),
    ],
)
def test_the_named_branch_alone_goes_without_a_question(
    script: ScriptDirectory, rows: list[str], target: str
) -> None:
    confirm_downgrade(script, rows, target, is_confirmed=False)


@pytest.mark.parametrize(
    ("target", "going"),
    [
        ("hotel@base", {"bbb", "hotel_0001"}),
        ("core@base", {"aaa", "bbb", "core_0001", "hotel_0001", "inn_0001"}),
        ("base", {"aaa", "bbb", "core_0001", "hotel_0001", "inn_0001"}),
    ],
)
def test_what_goes_along_is_listed_and_asked_about(
    script: ScriptDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: str,
    going: set[str],
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))

    with pytest.raises(StartupError, match="nothing was changed"):
        confirm_downgrade(script, ["bbb", "inn_0001"], target, is_confirmed=False)

    question = capsys.readouterr().out
    assert set(re.findall(r"^  (\w+): Say \1\.$", question, re.MULTILINE)) == going


def test_yes_goes_on(script: ScriptDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))

    confirm_downgrade(script, ["bbb"], "base", is_confirmed=False)


def test_without_a_terminal_it_is_refused(
    script: ScriptDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))

    with pytest.raises(StartupError, match="make db-downgrade to=base yes=1"):
        confirm_downgrade(script, ["bbb"], "base", is_confirmed=False)


def test_one_step_back_from_nothing_is_refused(script: ScriptDirectory) -> None:
    with pytest.raises(StartupError, match="no revision of the branch service is applied"):
        confirm_downgrade(script, ["inn_0001"], "service@-1", is_confirmed=True)


@pytest.mark.parametrize(
    ("rows", "target"),
    [
        (["joined"], "service@-1"),
        (["bbb", "ccc"], "service@-1"),
        (["after"], "service@-2"),
        (["after"], "-2"),
        (["after"], "service@-3"),
    ],
)
def test_one_step_back_over_a_fork_names_where_it_began(
    script: ScriptDirectory, tmp_path: Path, rows: list[str], target: str
) -> None:
    write_revision(tmp_path, "ccc", "aaa", None, None)
    write_revision(tmp_path, "joined", ("bbb", "ccc"), None, None)
    write_revision(tmp_path, "after", "joined", None, None)
    script = ScriptDirectory(ALEMBIC_DIR, version_locations=[tmp_path])

    with pytest.raises(StartupError, match=r"bbb and ccc stand .* `make db-downgrade to=aaa`"):
        confirm_downgrade(script, rows, target, is_confirmed=True)
    for possible in ("aaa", "joined"):
        confirm_downgrade(script, ["after"], possible, is_confirmed=False)


@pytest.mark.slow
async def test_an_extension_can_be_taken_away_alone(fresh_database: str) -> None:
    await init_db()
    async with connect() as connection:
        before = await connection.run_sync(catalogue)

    outcome = alembic(fresh_database, "downgrade", "_example@base")

    assert outcome.status == 0, outcome.output
    async with connect() as connection:
        gone = before - await connection.run_sync(catalogue)
    assert gone
    assert all("example_note" in line for line in gone)


@pytest.mark.slow
async def test_the_command_asks_before_it_takes_everything(fresh_database: str) -> None:
    await init_db()
    async with connect() as connection:
        before = await connection.run_sync(catalogue)

    outcome = alembic(fresh_database, "downgrade", "base")

    assert outcome.status == 1
    assert "core_0001" in outcome.output
    assert "nothing was changed" in outcome.output
    async with connect() as connection:
        assert await connection.run_sync(catalogue) == before


@pytest.mark.slow
def test_ctrl_c_at_the_question_changes_nothing_and_waits_for_no_answer() -> None:
    keyboard, terminal = pty.openpty()
    command = [sys.executable, "-m", "alembic", "downgrade", "base"]
    with own_database() as environment, os.fdopen(keyboard, "rb", buffering=0) as screen:
        assert alembic(environment["POSTGRES_DB"], "upgrade", "heads").status == 0
        process = subprocess.Popen(
            command,
            cwd=BASE_DIR,
            env=os.environ | environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        shown = b""
        while b"[y/N]" not in shown:
            shown += screen.read(4096)
        time.sleep(1)  # readline shows its prompt before it waits
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(10) == 1
        finally:
            process.kill()
            process.wait()
        assert b"nothing was changed" in screen.read(4096)
