"""What `make db-lint` finds, and what it lets pass."""

import subprocess
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from app.core.config import StartupError
from kit.migrations import lint
from kit.migrations._branches import ALEMBIC_DIR, script_directory, version_locations
from kit.migrations.lint import RULES, Finding, find_unsafe, revisions_since
from kit.testing._databases import run_module
from kit.tests.migrations.test_autocommit import write_project

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_database")]

TABLE = """
    op.execute("CREATE TYPE state_{name} AS ENUM ('new', 'paid')")
    op.create_table(
        "{name}",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("parent_id", sa.Integer()),
        sa.Column("code", sa.String(20)),
        sa.Column("total", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("checked", sa.Integer()),
        sa.Column("price", sa.Numeric(10, 2)),
        sa.Column("sold", sa.DateTime()),
        sa.Column("state", postgresql.ENUM(name="state_{name}", create_type=False)),
        sa.CheckConstraint("checked IS NOT NULL", name="checked_{name}"),
    )
    op.create_index("ix_{name}_code", "{name}", ["code"])
    op.create_index("ux_{name}_total", "{name}", ["total", "id"], unique=True)
    op.execute("ALTER TABLE {name} ADD CONSTRAINT later_{name} CHECK (total >= 0) NOT VALID")
    op.execute("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
"""

# What a revision does to the table {t}, by the rules that it breaks.
UNSAFE = [
    ("index", 'op.create_index("i_{t}", "{t}", ["total"])'),
    ("index", 'op.execute("CREATE UNIQUE INDEX i_{t} ON {t} (total)")'),
    ("index", 'with op.batch_alter_table("{t}") as table: table.create_index("i_{t}", ["total"])'),
    ("index", 'op.execute("DO $$ BEGIN CREATE INDEX i_{t} ON {t} (total); END $$")'),
    ("index", '{alone}op.execute("CREATE INDEX i_{t} ON {t} (total)")'),
    ("required-column", 'op.add_column("{t}", sa.Column("a", sa.Integer(), nullable=False))'),
    ("required-column", 'op.alter_column("{t}", "total", server_default=None)'),
    ("rewrite", 'op.execute("ALTER TABLE {t} ADD a uuid NOT NULL DEFAULT gen_random_uuid()")'),
    ("rewrite", 'op.execute("ALTER TABLE {t} ADD a timestamptz DEFAULT clock_timestamp()")'),
    ("rewrite", 'op.execute("ALTER TABLE {t} ADD a serial")'),
    (
        "rewrite",
        'op.add_column("{t}", sa.Column("a", sa.Integer(), sa.Computed("1", persisted=True)))',
    ),
    ("rewrite", 'op.alter_column("{t}", "total", type_=sa.BigInteger())'),
    ("rewrite", 'op.alter_column("{t}", "code", type_=sa.String(10))'),
    ("rewrite", 'op.alter_column("{t}", "price", type_=sa.Numeric(12, 4))'),
    ("rewrite", 'op.alter_column("{t}", "sold", type_=sa.Date())'),
    ("rewrite", 'op.execute("ALTER TABLE {t} ALTER state TYPE text USING state::text")'),
    ("rewrite", 'op.execute("ALTER TABLE {t} SET UNLOGGED")'),
    ("maintenance", '{alone}op.execute("VACUUM FULL {t}")'),
    ("maintenance", 'op.execute("REINDEX TABLE {t}")'),
    ("maintenance", 'op.execute("TRUNCATE {t}")'),
    ("not-null", 'op.alter_column("{t}", "code", nullable=False)'),
    ("constraint", 'op.create_foreign_key("k", "{t}", "other", ["parent_id"], ["id"])'),
    ("constraint", 'op.execute("ALTER TABLE {t} ADD a int REFERENCES other")'),
    ("constraint", 'op.create_check_constraint("k", "{t}", "total > 0")'),
    ("constraint", 'op.execute("ALTER TABLE {t} ADD a int CHECK (a > 0)")'),
    ("unique", 'op.create_unique_constraint("k", "{t}", ["code"])'),
    ("unique", 'op.execute("ALTER TABLE {t} ADD a int UNIQUE")'),
    ("unique", 'op.execute("ALTER TABLE {t} ADD EXCLUDE USING btree (code WITH =)")'),
    ("validate", 'op.execute("ALTER TABLE {t} VALIDATE CONSTRAINT later_{t}")'),
    ("rename-table", 'op.rename_table("{t}", "renamed_{t}")'),
    ("rename-column", 'op.alter_column("{t}", "code", new_column_name="sign")'),
    ("rename-member", "op.execute(\"ALTER TYPE state_{t} RENAME VALUE 'paid' TO 'done'\")"),
    ("member", "op.execute(\"ALTER TYPE state_{t} ADD VALUE 'sent'\")"),
    ("drop-column", 'op.drop_column("{t}", "code")'),
    ("drop-table", 'op.drop_table("{t}")'),
    ("data", 'op.execute("UPDATE {t} SET total = 1")'),
    ("data", "op.execute(\"DELETE FROM {t} WHERE code = 'old'\")"),
    ("data", "op.execute(sa.table('{t}', sa.column('total')).update().values(total=1))"),
    ("data", 'op.execute("UPDATE {t} SET total = 1 WHERE id BETWEEN 1 AND 1000")'),
    ("data", '{alone}op.execute("UPDATE {t} SET total = 1 WHERE total > 5")'),
    ("data", 'op.get_bind().execute(sa.text("SELECT * FROM {t}")).all()'),
    ("data", 'op.execute("WITH b AS (SELECT * FROM {t}) UPDATE {t} SET code = b.code FROM b")'),
]
FUNCTION = "op.execute(\"CREATE FUNCTION {0}() RETURNS int LANGUAGE sql {1} AS 'SELECT 1'\")"
TRIGGER = (
    'op.execute("CREATE FUNCTION f_{{t}}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {} '
    "AS 'BEGIN RETURN NEW; END'\")"
)
POLICY = 'op.execute("CREATE POLICY p ON {{t}} {}")'
TRUE, OWN = "WITH CHECK (true)", "USING (code = current_user)"
METADATA = "USING (current_setting('jwt')::json -> 'user_metadata' ->> 'team' = code)"
PUBLISHED = [
    ("published", 'op.execute("CREATE TABLE open_{t} AS SELECT * FROM {t}")'),
    ("published", 'op.execute("ALTER TABLE {t} DISABLE ROW LEVEL SECURITY")'),
    ("published", 'op.execute("CREATE VIEW v_{t} AS SELECT * FROM {t}")'),
    ("published", '{alone}op.execute("CREATE VIEW v_{t} AS SELECT * FROM {t}")'),
    ("published", 'op.execute("CREATE MATERIALIZED VIEW v_{t} AS SELECT * FROM {t}")'),
    ("published", 'op.execute("CREATE FOREIGN TABLE f_{t} (id int) SERVER far")'),
    ("definer", FUNCTION.format("f_{t}", "SECURITY DEFINER SET search_path = ''")),
    ("definer", FUNCTION.format("hidden.f_{t}", "SECURITY DEFINER")),
    ("definer", TRIGGER.format("")),
    ("policy", POLICY.format("USING (true)")),
    ("policy", POLICY.format(f"FOR INSERT TO public {TRUE}")),
    ("policy", POLICY.format(f"FOR UPDATE {OWN} {TRUE}")),
    ("policy", POLICY.format(f"FOR SELECT {METADATA}")),
]
UNSAFE += PUBLISHED
"""What a revision leaves open to callers of the REST API that Supabase publishes."""

BEFORE = [
    "CREATE SCHEMA hidden",
    "CREATE FOREIGN DATA WRAPPER wrapper",
    "CREATE SERVER far FOREIGN DATA WRAPPER wrapper",
]
NEW = (
    'op.create_table("new_{t}", sa.Column("id", sa.Integer(), primary_key=True)); '
    'op.execute("ALTER TABLE new_{t} ENABLE ROW LEVEL SECURITY"); '
)
SAFE = [
    "pass",
    "{new}",
    '{new}op.create_index("i_{t}", "new_{t}", ["id"])',
    '{new}op.add_column("new_{t}", sa.Column("a", sa.Integer(), nullable=False))',
    '{new}op.create_check_constraint("k", "new_{t}", "id > 0")',
    '{new}op.create_foreign_key("k", "new_{t}", "{t}", ["id"], ["id"])',
    '{new}op.execute("DELETE FROM new_{t}")',
    '{new}op.execute("CREATE TABLE hidden.copy_{t} AS SELECT * FROM {t}")',
    '{new}op.drop_table("new_{t}")',
    'op.add_column("{t}", sa.Column("a", sa.Integer()))',
    'op.add_column("{t}", sa.Column("a", sa.Integer(), server_default="1", nullable=False))',
    "op.execute(\"ALTER TABLE {t} ADD a timestamptz NOT NULL DEFAULT timezone('utc', now())\")",
    'op.execute("CREATE TYPE e_{t} AS ENUM (\'a\')"); op.execute("ALTER TABLE {t} ADD a e_{t}")',
    '{alone}op.create_index("i_{t}", "{t}", ["total"], postgresql_concurrently=True)',
    '{alone}op.drop_index("ix_{t}_code", "{t}", postgresql_concurrently=True)',
    '{alone}op.execute("REINDEX TABLE CONCURRENTLY {t}")',
    '{alone}op.execute("VACUUM {t}")',
    'op.alter_column("{t}", "code", type_=sa.String(40))',
    'op.alter_column("{t}", "code", type_=sa.Text())',
    'op.alter_column("{t}", "price", type_=sa.Numeric(12, 2))',
    'op.alter_column("{t}", "checked", nullable=False)',
    'op.alter_column("{t}", "total", nullable=True)',
    'op.alter_column("{t}", "total", server_default="5")',
    'op.drop_index("ix_{t}_code", "{t}")',
    'op.execute("ALTER INDEX ix_{t}_code RENAME TO iy_{t}_code")',
    'op.create_foreign_key("k", "{t}", "other", ["parent_id"], ["id"], postgresql_not_valid=True)',
    'op.create_check_constraint("k", "{t}", "total > 0", postgresql_not_valid=True)',
    '{alone}op.execute("ALTER TABLE {t} VALIDATE CONSTRAINT later_{t}")',
    'op.execute("ALTER TABLE {t} ADD UNIQUE USING INDEX ux_{t}_total")',
    'op.drop_constraint("checked_{t}", "{t}")',
    "{alone}op.execute(\"ALTER TYPE state_{t} ADD VALUE 'sent'\")",
    'op.execute("UPDATE {t} SET total = 1 WHERE id = 7")',
    'op.execute("DELETE FROM {t} WHERE id IN (7, 8)")',
    '{alone}op.execute("UPDATE {t} SET total = 1 WHERE id BETWEEN 1 AND 1000")',
    '{alone}op.execute("DELETE FROM {t} WHERE id IN (SELECT id FROM {t} LIMIT 1000)")',
    'op.bulk_insert(sa.table("{t}", sa.column("checked")), [{{"total": 1, "checked": 1}}])',
    'op.get_bind().execute(sa.text("SELECT count(*) FROM {t}"))',
    'op.get_bind().execute(sa.text("SELECT code FROM {t} WHERE id = 7"))',
    "{alone}op.get_bind().execute(sa.text('SELECT id FROM {t} LIMIT 1000'))",
    'op.create_table_comment("{t}", "A table.")',
    'op.execute("CREATE VIEW v_{t} AS SELECT * FROM {t}"); op.execute("DROP VIEW v_{t}")',
    'op.execute("CREATE VIEW v_{t} WITH (security_invoker) AS SELECT * FROM {t}")',
    'op.execute("CREATE MATERIALIZED VIEW hidden.v_{t} AS SELECT * FROM {t}")',
    'op.execute("CREATE EXTENSION pg_stat_statements")',
    FUNCTION.format("f_{t}", ""),
    FUNCTION.format("hidden.f_{t}", "SECURITY DEFINER SET search_path = ''"),
    TRIGGER.format("SET search_path = ''"),
    POLICY.format("FOR SELECT USING (true)"),
    POLICY.format("TO CURRENT_USER USING (true)"),
    POLICY.format("AS RESTRICTIVE USING (true)"),
    POLICY.format(OWN),
]
ALONE = "with op.get_context().autocommit_block(): "

REVISION = """
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "{revision}"
down_revision = {before!r}
branch_labels = {labels!r}
depends_on = {depends!r}


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    pass
"""


def write_revisions(folder: Path, *upgrades: str) -> ScriptDirectory:
    before = None
    for number, upgrade in enumerate(upgrades):
        labels = None if before else ("service",)
        depends = None if before else "core_0001"
        fields = {"revision": f"probe_{number}", "before": before, "labels": labels}
        fields["depends"] = depends
        (folder / f"{number:03}.py").write_text(REVISION.format(upgrade=upgrade, **fields))
        before = f"probe_{number}"
    locations = [*version_locations()[:-1], folder]
    return ScriptDirectory(ALEMBIC_DIR, version_locations=locations)


async def judge(script: ScriptDirectory) -> list[Finding]:
    revisions = [each for each in script.walk_revisions() if each.revision.startswith("probe_")]
    return await find_unsafe(script, revisions[:-1])


async def test_each_unsafe_form_is_found_and_no_safe_one(tmp_path: Path) -> None:
    cases = [*UNSAFE, *(("", case) for case in SAFE)]
    names = [f"t{number:02}" for number in range(len(cases))]
    tables = 'op.create_table("other", sa.Column("id", sa.Integer(), primary_key=True))'
    for statement in BEFORE:
        tables += f'\n    op.execute("{statement}")'
    tables += "".join(TABLE.format(name=name) for name in names)
    upgrades = [
        case.format(t=name, alone=ALONE, new=NEW.format(t=name))
        for (_, case), name in zip(cases, names, strict=True)
    ]

    findings = await judge(write_revisions(tmp_path, tables, *upgrades))

    found: dict[str, list[str]] = {}
    for finding in findings:
        found.setdefault(finding.path.name, []).append(finding.rule)
    expected = {f"{n:03}.py": [rule] for n, (rule, _) in enumerate(cases, 1) if rule}
    assert found == expected
    assert len(UNSAFE) >= 20
    assert len(SAFE) >= 20
    assert {rule for rule, _ in UNSAFE} == RULES.keys() - {"fails", "waiver"}


COLUMN = 'op.add_column("api_token", sa.Column("a{n}", sa.Integer(), nullable=False))'
WAIVERS = [
    (f"# db-lint: required-column: nothing inserts tokens yet\n    {COLUMN}", []),
    (f"{COLUMN}  # db-lint: required-column: nothing inserts tokens yet", []),
    (f"# db-lint: required-column:\n    {COLUMN}", ["required-column", "waiver"]),
    (f"# db-lint: required-column\n    {COLUMN}", ["required-column", "waiver"]),
    (f"# db-lint\n    {COLUMN}", ["required-column"]),
    (f"# db-lint: index: it is small\n    {COLUMN}", ["required-column", "waiver"]),
    ("# db-lint: index: it is small\n    pass", ["waiver"]),
    (f"{COLUMN}\n\n    # db-lint: required-column: too late", ["required-column", "waiver"]),
]


async def test_a_waiver_needs_its_rule_and_a_reason(tmp_path: Path) -> None:
    upgrades = [upgrade.format(n=number) for number, (upgrade, _) in enumerate(WAIVERS)]

    findings = await judge(write_revisions(tmp_path, "pass", *upgrades))

    for number, (upgrade, rules) in enumerate(WAIVERS, 1):
        found = [each.rule for each in findings if each.path.name == f"{number:03}.py"]
        assert found == rules, upgrade


async def test_the_operation_is_named_with_its_line(tmp_path: Path) -> None:
    upgrade = "helper()\n\n\ndef helper() -> None:\n    for _ in range(2):\n        "
    upgrade += 'op.execute(\n            "UPDATE api_token SET hint = name"\n        )'

    (finding,) = await judge(write_revisions(tmp_path, "pass", upgrade))

    path = tmp_path / "001.py"
    (line,) = [n for n, text in enumerate(path.read_text().splitlines(), 1) if "op.exec" in text]
    assert (finding.path, finding.rule, finding.line) == (path, "data", line)
    assert "UPDATE api_token SET hint = name" in str(finding)
    assert RULES["data"][1] in str(finding)


async def test_a_revision_that_fails_is_a_finding(tmp_path: Path) -> None:
    index = 'op.create_index("i", "api_token", ["hint"], postgresql_concurrently=True)'

    (finding,) = await judge(write_revisions(tmp_path, "pass", index, "pass"))

    assert finding.rule == "fails"
    assert finding.line > 10
    assert "cannot run inside a transaction" in str(finding)


async def test_so_is_one_that_raises(tmp_path: Path) -> None:
    (finding,) = await judge(write_revisions(tmp_path, "pass", "op.create_indices()"))

    assert finding.rule == "fails"
    assert "no attribute 'create_indices'" in str(finding)


async def test_a_revision_with_async_functions_is_judged(tmp_path: Path) -> None:
    upgrade = """op.run_async(change)


async def change(connection) -> None:
    await connection.execute(sa.text("UPDATE api_token SET hint = name"))"""
    allowed = f"# db-lint: data: it has ten rows\n    {upgrade}"

    (finding,) = await judge(write_revisions(tmp_path, "pass", upgrade, allowed))

    assert (finding.path.name, finding.rule) == ("001.py", "data")


async def test_a_waiver_in_a_revision_that_is_not_judged_is_left_alone(tmp_path: Path) -> None:
    script = write_revisions(tmp_path, "pass  # db-lint: index: it was small", "pass")

    assert await judge(script) == []


async def test_what_this_template_brings_is_safe() -> None:
    script = script_directory()
    revisions = list(script.walk_revisions())
    assert "core_0001" in {revision.revision for revision in revisions}

    assert await find_unsafe(script, revisions) == []


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_what_main_has_is_judged_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint, "BASE_DIR", tmp_path)
    script = write_revisions(tmp_path, "pass", "pass")
    begun = '000_füge_"an".py'
    (tmp_path / "000.py").rename(tmp_path / begun)
    every = {path.name for folder in version_locations()[:-1] for path in folder.glob("*.py")}
    every |= {begun, "001.py"}

    def judged(since: str = "") -> tuple[set[str], str]:
        revisions, commit = revisions_since(script, since)
        return {Path(revision.path).name for revision in revisions}, commit

    assert judged() == (every, "base")
    git(tmp_path, "init")
    git(tmp_path, "add", begun)
    git(tmp_path, "commit", "-m", "Begin")
    assert judged() == (every, "base")
    assert judged("HEAD") == (every - {begun}, "HEAD")
    git(tmp_path, "update-ref", "refs/remotes/origin/main", "HEAD")
    assert judged() == (every - {begun}, "origin/main")
    assert judged("base") == (every, "base")
    assert judged("0" * 40) == (every, "base")
    with pytest.raises(StartupError, match="git does not know the commit abcd1234"):
        judged("abcd1234")


def test_the_command_fails_for_a_finding(tmp_path: Path, fresh_database: str) -> None:
    project = write_project(tmp_path, leaving="middle")

    assert run_module(fresh_database, "kit.commands.db", "lint", project=project).status == 0

    last = project / "alembic" / "versions" / "last.py"
    code = last.read_text().replace(
        "\ndef downgrade", '    op.drop_table("probe_first")\n\ndef downgrade'
    )
    last.write_text(code)
    outcome = run_module(fresh_database, "kit.commands.db", "lint", project=project)

    assert outcome.status == 1
    assert "alembic/versions/last.py:" in outcome.output
    assert "1 findings" in outcome.output
