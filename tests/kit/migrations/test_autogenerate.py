"""`make db-migrate`, on a copy of the project: it writes into its folders."""

import ast
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app.core.config import BASE_DIR, settings
from kit.migrations import script_directory
from kit.testing._databases import alembic

pytestmark = pytest.mark.slow

MODEL = """
from sqlmodel import Field, SQLModel


class {name}(SQLModel, table=True):
    __tablename__ = "{table}"

    id: int | None = Field(default=None, primary_key=True)
    title: str = Field(max_length=80, index=True)
    other_id: int = Field(foreign_key="{other}.id")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, with the extension `probe_inn`, new and without any migration."""
    for folder in ("app", "alembic", "kit"):
        shutil.copytree(
            BASE_DIR / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file in ("alembic.ini", "pyproject.toml"):
        if (BASE_DIR / file).exists():
            shutil.copy(BASE_DIR / file, tmp_path)
    probe_inn = tmp_path / "app" / "extensions" / "probe_inn"
    probe_inn.mkdir()
    (probe_inn / "__init__.py").write_text("")
    (probe_inn / "models.py").write_text(
        MODEL.format(name="ProbeInnRoom", table="probe_inn_room", other="api_token")
    )
    return tmp_path


def migrate(project: Path, database: str, *, extension: str = "") -> list[Path]:
    """The files that `make db-migrate` adds."""
    before = revisions(project)
    chosen = ("-x", f"extension={extension}") if extension else ()
    outcome = alembic(
        database,
        *chosen,
        "revision",
        "--autogenerate",
        "-m",
        "probe",
        project=project,
        ENABLED_EXTENSIONS=",".join([*settings.ENABLED_EXTENSIONS, "probe_inn"]),
    )
    assert outcome.status == 0, outcome.output
    return sorted(revisions(project) - before)


def revisions(project: Path) -> set[Path]:
    return {*project.glob("alembic/versions/*.py"), *project.glob("app/**/migrations/*.py")}


def variables(revision: Path) -> dict[str, Any]:
    """The module's assignments, without running it."""
    assignments = [
        node for node in ast.parse(revision.read_text()).body if isinstance(node, ast.Assign)
    ]
    return {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in assignments}


def scratch_databases() -> set[str]:
    engine = create_engine(settings.SYNC_DATABASE_URL, poolclass=NullPool)
    names = text("SELECT datname FROM pg_database WHERE datname LIKE 'scratch%'")
    with engine.connect() as connection:
        return set(connection.scalars(names))


def assert_scratch_databases_pass() -> None:
    """Those there now are gone soon; tests that run beside this one may have some for a moment."""
    found = scratch_databases()
    deadline = time.monotonic() + 120
    while left := found & scratch_databases():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_each_branch_gets_its_tables_and_nothing_else(project: Path, fresh_database: str) -> None:
    """One walk through a project's life; each step costs a process."""
    engine = create_engine(settings.SYNC_DATABASE_URL, poolclass=NullPool)
    with engine.begin() as connection:
        # The developer's database has a table of its own, and one that a model describes.
        connection.execute(text("CREATE TABLE by_hand (id int)"))
        connection.execute(text("CREATE TABLE probe (id int)"))

    # An extension's revision goes to the extension and holds its tables alone.
    models = project / "app" / "models"
    (models / "probe.py").write_text(
        MODEL.format(name="Probe", table="probe", other="probe_inn_room")
    )
    [extension] = migrate(project, fresh_database, extension="probe_inn")
    assert extension.parent == project / "app" / "extensions" / "probe_inn" / "migrations"
    assert variables(extension)["revision"].startswith("probe_inn_")
    assert variables(extension)["branch_labels"] == ("probe_inn",)
    kit_head = script_directory().get_revision("core@head").revision
    assert variables(extension)["depends_on"] == kit_head
    assert extension.read_text().count("op.create_table(") == 1
    assert "ALTER TABLE probe_inn_room ENABLE ROW LEVEL SECURITY" in extension.read_text()

    # The service's own goes to alembic/versions and names what it needs of the others.
    [service] = migrate(project, fresh_database)
    assert service.parent == project / "alembic" / "versions"
    assert variables(extension)["revision"] in variables(service)["depends_on"]
    code = service.read_text()
    assert code.count("op.create_table(") == 1
    assert "by_hand" not in code
    assert "op.create_index(" in code
    assert 'op.f("fk_probe_other_id_probe_inn_room")' in code
    assert "ALTER TABLE probe ENABLE ROW LEVEL SECURITY" in code

    # Nothing to do is no file, and the databases for comparison are gone.
    assert migrate(project, fresh_database) == []
    assert_scratch_databases_pass()

    # Dropping a table that the extension created needs that extension, and builds on the last one.
    (project / "app" / "extensions" / "probe_inn" / "models.py").write_text("")
    (models / "probe.py").unlink()
    [drop] = migrate(project, fresh_database)
    assert variables(drop)["down_revision"] == variables(service)["revision"]
    assert drop.read_text().count("op.drop_table(") == 2


def test_tables_that_refer_to_each_other_are_made_and_dropped(
    project: Path, fresh_database: str
) -> None:
    (project / "app" / "extensions" / "probe_inn" / "models.py").unlink()
    models = [project / "app" / "models" / f"{name}.py" for name in ("team", "player")]
    for model, other in zip(models, ("player", "team"), strict=True):
        key = "int | None" if other == "player" else "int"
        text = MODEL.format(name=model.stem.title(), table=model.stem, other=other)
        model.write_text(text.replace("other_id: int", f"other_id: {key}"))
    [made] = migrate(project, fresh_database)
    for model in models:
        model.unlink()
    [dropped] = migrate(project, fresh_database)

    create, drop = made.read_text(), dropped.read_text()
    assert create.count("op.create_foreign_key(") == 1
    assert create.index('"player",') < create.index('op.f("fk_team_other_id_player"), "team"')
    assert "Fails" not in create + drop


def test_an_index_of_a_kit_s_table_that_no_model_has_is_mentioned(
    project: Path, fresh_database: str
) -> None:
    (project / "app" / "extensions" / "probe_inn" / "models.py").unlink()
    (project / "alembic" / "versions" / "by_hand.py").write_text(
        "from alembic import op\n\n"
        'revision = "aaa"\ndown_revision = None\nbranch_labels = ("service",)\n'
        f'depends_on = "{script_directory().get_revision("core@head").revision}"\n\n\n'
        'def upgrade():\n    op.create_index("ix_audit_entry_client", "audit_entry", ["client"])\n'
    )
    before = revisions(project)
    command = ("revision", "--autogenerate", "-m", "probe")

    dropped = alembic(fresh_database, *command, project=project)
    for revision in revisions(project) - before:
        revision.unlink()
    (project / "app" / "models" / "audit.py").write_text(
        "from sqlalchemy import Index\nfrom sqlmodel import col\n\n"
        "from kit.models import AuditEntry\n\n"
        'Index("ix_audit_entry_client", col(AuditEntry.client))\n'
    )
    kept = alembic(fresh_database, *command, project=project)

    assert "drops ix_audit_entry_client of audit_entry, a table of the kit" in dropped.output
    assert "The models and the migrations agree" in kept.output


def test_a_blank_revision_has_the_imports_of_alembic_s_own(
    project: Path, fresh_database: str
) -> None:
    before = revisions(project)

    outcome = alembic(fresh_database, "revision", "-m", "probe", project=project)

    assert outcome.status == 0, outcome.output
    [revision] = revisions(project) - before
    assert "import sqlalchemy as sa\nfrom alembic import op\n" in revision.read_text()


def test_a_hosted_project_is_no_place_for_comparison(fresh_database: str) -> None:
    """A throw-away server is: the hosted one, which does not even exist here, is never asked."""
    outcome = alembic(
        fresh_database,
        "check",
        DATABASE_URL="postgresql://postgres:password@hosted.invalid/postgres",
        POSTGRES_SSLMODE="",
    )

    assert outcome.status == 0, outcome.output


def test_an_extension_has_to_be_enabled(project: Path, fresh_database: str) -> None:
    outcome = alembic(
        fresh_database, "-x", "extension=departed", "revision", "-m", "probe", project=project
    )

    assert outcome.status != 0
    assert "the extension departed is not enabled" in outcome.output
    assert "Traceback" not in outcome.output


def test_a_revision_that_depends_on_a_missing_one_is_named(
    project: Path, fresh_database: str
) -> None:
    (project / "alembic" / "versions" / "needs_departed.py").write_text(
        'revision = "aaa"\ndown_revision = None\ndepends_on = "departed_0001"\n'
    )

    outcome = alembic(fresh_database, "upgrade", "heads", project=project)

    assert outcome.status == 1
    assert "no revision departed_0001, but alembic/versions/needs_departed.py" in outcome.output
    assert "Traceback" not in outcome.output
