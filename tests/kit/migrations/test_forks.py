"""Two heads on one branch, as two people leave them who write a migration each."""

import re
from pathlib import Path

import pytest

from kit.testing._databases import run_module
from kit.tests.migrations.test_autocommit import REVISION, write_project

pytestmark = pytest.mark.slow


def test_are_told_with_the_remedy_which_mends_them(tmp_path: Path, fresh_database: str) -> None:
    project = write_project(tmp_path, leaving="")
    table = {"name": "last_too", "before": '"probe_middle"', "labels": None, "leaving": ""}
    (project / "alembic/versions/last_too.py").write_text(REVISION.format(**table))

    def run(*arguments: str, status: int = 0) -> str:
        outcome = run_module(fresh_database, *arguments, project=project)
        assert outcome.status == status, outcome.output
        return outcome.output

    def problems(status: int = 0) -> list[str]:
        lines = run("kit.commands.doctor", "--skip", "redis", status=status).splitlines()
        return [line.split()[1] for line in lines if line.startswith(("problem", "warning"))]

    remedy = "Join them with `make db-merge`."
    run("alembic", "upgrade", "heads")
    assert remedy in run("kit.commands.db", "status")
    assert remedy in run("kit.commands.doctor", status=1)
    assert problems(status=1) == ["migration-forks:"]
    assert remedy in run("alembic", "revision", "--autogenerate", "-m", "more", status=255)
    back = "To revert both, run `make db-downgrade to=probe_middle`."
    assert back in run("alembic", "downgrade", "service@-1", status=1)

    run("alembic", "merge", "--message", "join", "service@heads")  # as `make db-merge` does

    assert "nothing to join" in run("alembic", "merge", "-m", "more", "service@heads", status=255)
    assert "missing" in run("kit.commands.db", "status")
    run("alembic", "upgrade", "heads")
    assert problems() == []
    status = run("kit.commands.db", "status")
    assert "missing" not in status
    assert remedy not in status
    assert back in run("alembic", "downgrade", "service@-1", status=1)
    run("alembic", "downgrade", "probe_middle")
    run("alembic", "upgrade", "heads")


def test_a_branch_that_begins_twice_is_told_with_the_remedy_which_mends_it(
    tmp_path: Path, fresh_database: str
) -> None:
    project = write_project(tmp_path, leaving="")
    table = {"name": "first_too", "before": "None", "labels": '("service",)', "leaving": ""}
    other = project / "alembic/versions/first_too.py"
    other.write_text(REVISION.format(**table))

    for arguments in (("kit.commands.doctor",), ("alembic", "upgrade", "heads")):
        outcome = run_module(fresh_database, *arguments, project=project)
        assert outcome.status == 1, outcome.output
        assert "set branch_labels = None and down_revision = " in outcome.output

    said = " ".join(outcome.output.split())  # it may be on two lines
    found = re.search(r"file of (\w+), set .* down_revision = ('\w+')", said)
    assert found
    path = project / f"alembic/versions/{found[1].removeprefix('probe_')}.py"
    first = path.read_text().replace('("service",)', "None")
    path.write_text(first.replace("down_revision = None", f"down_revision = {found[2]}"))
    outcome = run_module(fresh_database, "alembic", "history", project=project)
    assert outcome.status == 0, outcome.output


def test_a_release_after_a_rollback_with_a_migration_of_its_own_is_refused(
    tmp_path: Path, fresh_database: str
) -> None:
    """Left ahead, it would serve without its migration."""
    project = write_project(tmp_path, leaving="")
    release = ("alembic", "-x", "leave-ahead", "upgrade", "heads")
    models, last = project / "app/models/probes.py", project / "alembic/versions/last.py"
    new_models, new_last = models.read_text(), last.read_text()

    def run(*arguments: str, status: int = 0) -> str:
        outcome = run_module(fresh_database, *arguments, project=project)
        assert outcome.status == status, outcome.output
        return outcome.output

    run(*release)
    models.write_text(new_models.partition("\n\n\nclass ProbeLast")[0])
    last.unlink()  # rolled back
    assert "the database is ahead of this code: it has probe_last" in run(*release)
    assert "missing" not in run("kit.commands.db", "status")
    table = {"name": "other", "before": '"probe_middle"', "labels": None, "leaving": ""}
    other = project / "alembic/versions/other.py"
    other.write_text(REVISION.format(**table))

    for command in (release, ("kit.commands.serve", "--check"), ("kit.commands.doctor",)):
        said = " ".join(run(*command, status=1).split())
        assert "it has probe_last, which no file here defines" in said
        assert "it lacks probe_other" in said
        assert "run `make db-merge`" in said

    last.write_text(new_last)  # the remedy
    models.write_text(new_models)
    run("alembic", "merge", "--message", "join", "service@heads")
    run(*release)
    status = run("kit.commands.db", "status")
    assert "missing" not in status
    assert "ahead" not in status
