"""`make db-rehearse`: what it measures, and what it tells."""

import re
from pathlib import Path

import pytest

from kit.migrations import missing_revisions
from kit.testing import rehearsal
from kit.testing.rehearsal import rehearse
from kit.tests.migrations.test_lint import write_revisions

pytestmark = pytest.mark.slow

# The index is built while nobody can write, and the lock kept by what follows.
SLOW = """op.create_index("i", "api_token", ["hint"])
    op.execute("SELECT pg_sleep(2)")
    op.execute("COMMENT ON TABLE audit_entry IS 'kept until here'")"""


def seconds(report: str, end: str) -> list[float]:
    (line,) = [line for line in report.splitlines() if line.endswith(end)]
    return [float(number) for number in re.findall(r"\b\d+\.\d\d\b", line)]


async def test_it_tells_who_waited_for_which_statement_and_how_long(tmp_path: Path) -> None:
    script = write_revisions(tmp_path, "pass", SLOW)
    pending = [each for each in missing_revisions(script, []) if each.revision == "probe_1"]

    report, has_succeeded = await rehearse(script, pending, rows=500)

    assert has_succeeded
    took, read, write = seconds(report, "pg_sleep(2)")
    assert read < write > 1
    assert took >= 2
    assert "CREATE INDEX i ON api_token (hint)" in report
    read, write = seconds(report, "table api_token")
    assert read < write > 1
    # On a busy machine these take their time as well, but none for a lock.
    assert max(seconds(report, "table audit_entry")) < write
    assert "failed" not in report
    assert "No rows" not in report


def test_rows_make_a_migration_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    column = 'op.add_column("api_token", sa.Column("a", sa.Integer(), nullable=False))'
    script = write_revisions(tmp_path, "pass", column)
    monkeypatch.setattr(rehearsal, "script_directory", lambda: script)

    assert rehearsal.main(["--rows", "10", "--after", "probe_0"]) == 1

    assert "The migration failed: " in (output := capsys.readouterr().out)
    assert 'column "a" of relation "api_token" contains null values' in output
    assert rehearsal.main(["--rows", "10", "--after", "probe_1"]) == 0
