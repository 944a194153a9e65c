"""Finds what revisions would do to tables in use, and the safe way: `make db-lint`.

It runs the revisions on a scratch database and compares PostgreSQL's catalogue before and after
each statement. So it knows what is new, and what PostgreSQL rewrites, however it was written. It
also finds what a revision leaves open to callers of the REST API that Supabase publishes.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from traceback import extract_tb
from typing import Any, NamedTuple

from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, event

from kit.database import row_security_remedies
from kit.migrations._upgrade import missing_revisions, run_revision, scratch_database
from kit.settings import BASE_DIR, StartupError

ALONE = "in `with op.get_context().autocommit_block():`, alone in its revision"
OLD_NAME = "is used under its old name by the running release"
NEXT_RELEASE = "Deploy code that does without; drop it in the release after that, with a waiver"
READS_AND_WRITES, WRITES = "blocks reads and writes while", "blocks writes while"
NEW_COLUMN = "add a column, write both, back-fill, read the new one, drop the old one later"

RULES = {
    "drop-table": ("is used by the running release", NEXT_RELEASE),
    "drop-column": ("is used by the running release", NEXT_RELEASE),
    "rename-table": (OLD_NAME, "Keep it, with __tablename__; or leave a view of that name"),
    "rename-column": (OLD_NAME, f"Keep it, with sa_column=Column(…); or {NEW_COLUMN}"),
    "rename-member": (OLD_NAME, "Add a member, write that alone, change the rows in batches"),
    "required-column": (
        "makes inserts of the running release fail, or itself where there are rows",
        "Give it a server_default; drop that once no running release needs it, with a waiver",
    ),
    "not-null": (
        f"{READS_AND_WRITES} all rows are checked",
        "First create a check constraint `… IS NOT NULL` as `constraint` says",
    ),
    "rewrite": (f"{READS_AND_WRITES} it is written anew", f"Instead {NEW_COLUMN}"),
    "maintenance": (
        f"{READS_AND_WRITES} it is written anew",
        "Use CONCURRENTLY, VACUUM without FULL, DELETE in batches",
    ),
    "index": (f"{WRITES} it is built", f"Build it with postgresql_concurrently=True, {ALONE}"),
    "unique": (
        f"{READS_AND_WRITES} its index is built",
        "First build a unique index as `index` says; then ADD CONSTRAINT … UNIQUE USING INDEX …",
    ),
    "constraint": (
        f"{WRITES} all rows are checked",
        f"Create it with postgresql_not_valid=True; then VALIDATE CONSTRAINT {ALONE}",
    ),
    "validate": ("keeps earlier locks while all rows are checked", f"Run it {ALONE}"),
    "member": ("is unusable in the rest of the same upgrade", f"Add it {ALONE}"),
    "data": (
        "keeps its locks, and earlier ones, until all rows are changed",
        f"Loop over batches (… WHERE id IN (SELECT id … LIMIT 1000)) {ALONE}",
    ),
    "published": (
        "is open to whoever has the public key of Supabase's REST API",
        "Enable row level security; WITH (security_invoker = true) of a view; else another schema",
    ),
    "definer": (
        "runs with its owner's rights, past row level security",
        "Omit SECURITY DEFINER; or take a schema other than public, and SET search_path = ''",
    ),
    "policy": (
        "is met by any caller of Supabase's REST API",
        "Compare with (SELECT auth.uid()), or name a role; users write user_metadata themselves",
    ),
    "fails": ("cannot be applied", "Correct it; what comes after it was not judged"),
    "waiver": ("waives nothing", "Write `# db-lint: RULE: the reason` above the operation"),
}
"""Why each operation is unsafe, most of them on a table in use, and what is safe."""

SNAPSHOT = """
    WITH tables AS (
        SELECT oid, relname, relfilenode FROM pg_class
        WHERE relkind IN ('r', 'p', 'm') AND relname <> 'alembic_version'
          AND relnamespace::regnamespace::text !~ '^(pg_|information_schema$)'
    )
    SELECT 'table', oid::int8, 0::int8, oid::regclass::text, '', relfilenode::text FROM tables
    UNION ALL
    SELECT 'column', attrelid, attnum, quote_ident(attname),
        CASE WHEN NOT attnotnull THEN 'nullable'
             WHEN atthasdef OR attidentity <> '' THEN 'filled' ELSE 'required' END, ''
    FROM pg_attribute JOIN tables ON tables.oid = attrelid WHERE attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT 'index', indrelid, hashtext(pg_class.relname::text) & x'7fffffff'::int,
        pg_class.relname,
        CASE WHEN indisunique AND indnkeyatts = 1 THEN pg_get_indexdef(indexrelid, 1, true) END,
        pg_class.relfilenode::text
    FROM pg_index JOIN tables ON tables.oid = indrelid
    JOIN pg_class ON pg_class.oid = indexrelid
    UNION ALL
    SELECT 'constraint', conrelid, pg_constraint.oid, conname,
        contype::text || CASE WHEN convalidated THEN ' valid' ELSE '' END,
        CASE contype WHEN 'c' THEN pg_get_constraintdef(pg_constraint.oid)
            ELSE pg_relation_filenode(conindid)::text END
    FROM pg_constraint JOIN tables ON tables.oid = conrelid
    UNION ALL
    SELECT 'member', enumtypid, oid, enumlabel, '', '' FROM pg_enum
"""

# After https://github.com/supabase/splinter (lints 11, 15, 24, 28 and 29).
OPEN = """
    SELECT 'definer', oid::regprocedure::text FROM pg_proc
    WHERE prosecdef AND pronamespace::regnamespace::text !~ '^(pg_|information_schema$)'
      AND oid NOT IN (SELECT objid FROM pg_depend WHERE deptype = 'e')
      AND (array_to_string(proconfig, ' ') ~ 'search_path=' IS NOT TRUE
        OR pronamespace = 'public'::regnamespace AND prorettype::regtype::text !~ 'trigger$')
    UNION ALL
    SELECT 'policy', format('%I of %s', polname, polrelid::regclass)
    FROM pg_policy, pg_get_expr(polqual, polrelid) rows, pg_get_expr(polwithcheck, polrelid) written
    WHERE polpermissive AND (0 = ANY (polroles)
        OR polroles::regrole[]::text[] && '{anon,authenticated}')
      AND (polcmd <> 'r' AND 'true' IN (rows, written) OR concat(rows, written) ~ 'user_metadata')
"""

TABLE = r'(?:ONLY\s+)?(?:"?\w+"?\.)?"?(?P<table>\w+)"?(?P<rest>.*)'
WRITE = re.compile(
    rf"(?<!FOR )(?<!DO )\b(?:UPDATE|DELETE\s+FROM)\s+{TABLE}", re.IGNORECASE | re.DOTALL
)
READ = re.compile(
    rf"\s*SELECT\s(?!.*\b(?:count|min|max|exists)\s*\()(?!.*\bLIMIT\s+1\b).*?\bFROM\s+{TABLE}",
    re.IGNORECASE | re.DOTALL,
)
"""What it reads is looped over, and changed row by row; no row is there to see that."""

BATCH = re.compile(r"\bLIMIT\b|\bBETWEEN\b|>.*<|<.*>", re.IGNORECASE | re.DOTALL)
ONE_ROW = r"\b(?:{names})\s*(?:=\s*(?:ANY\s*\(\s*)?|IN\s*\(\s*)[$:'\d]"
WAIVER = re.compile(r"#\s*db-lint:\s*(?P<rule>[\w-]*)\s*:?\s*(?P<reason>.*)")

MAIN = ("origin/HEAD", "origin/main", "origin/master")


class Finding(NamedTuple):
    """An unsafe operation of a revision."""

    path: Path
    line: int
    rule: str
    subject: str
    statement: str

    def __str__(self) -> str:
        """Say where it is, why it is unsafe, and what is safe."""
        why, safe = RULES[self.rule]
        place = self.path.relative_to(BASE_DIR) if self.path.is_relative_to(BASE_DIR) else self.path
        statement = " ".join(self.statement.split())
        return (
            f"{place}:{self.line}: {self.rule}: {self.subject} {why}.\n    {statement}\n    {safe}."
        )


class _Thing(NamedTuple):
    name: str
    state: str
    stored: str


Key = tuple[str, int, int]
"""Kind, table or enumeration, and number."""
Catalogue = dict[Key, _Thing]
NOTHING = _Thing("", "", "")


def revisions_since(script: ScriptDirectory, commit: str = "") -> tuple[list[Script], str]:
    """Return the revisions whose files a commit does not have, and the name of that commit.

    Args:
        script: the revisions.
        commit: the remote's main branch if blank. For `base`, or without such a branch, all are
            returned.

    Raises:
        StartupError: when git does not know the commit.
    """
    revisions = missing_revisions(script, [])
    if commit.strip("0") == "" != commit:  # what CI calls the commit before the first
        commit = "base"
    for main in [commit] if commit else MAIN:
        ls_tree = ["git", "ls-tree", "-rz", "--name-only", main]  # z: names as they are
        try:
            files = subprocess.check_output(ls_tree, cwd=BASE_DIR, stderr=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            continue
        known = {BASE_DIR / os.fsdecode(name) for name in files.split(b"\0")}
        return [each for each in revisions if Path(each.path) not in known], main
    if commit not in ("", "base"):
        raise StartupError(f"git does not know the commit {commit}: fetch it, or name another.")
    return revisions, "base"


async def find_unsafe(script: ScriptDirectory, judged: list[Script]) -> list[Finding]:
    """Run all revisions on a scratch database, and judge some of them."""
    findings: list[Finding] = []
    async with scratch_database() as connection:
        for revision in missing_revisions(script, []):
            path = Path(revision.path)
            try:
                if revision not in judged:
                    await connection.run_sync(run_revision, script, revision)
                    continue
                found = await connection.run_sync(_run_and_judge, script, revision)
            except Exception as error:  # noqa: BLE001 (a revision may raise anything)
                trace = extract_tb(error.__traceback__)
                line = [0, *(each.lineno or 0 for each in trace if each.filename == str(path))][-1]
                message = str(getattr(error, "orig", repr(error))).splitlines()[0]
                statement = str(getattr(error, "statement", ""))
                return [*findings, Finding(path, line, "fails", f"({message})", statement)]
            findings += _without_waived(path, found)
    return findings


def _run_and_judge(
    connection: Connection, script: ScriptDirectory, revision: Script
) -> list[Finding]:
    judge = _Judge(connection, Path(revision.path))
    connection.rollback()  # of what it has read
    event.listen(connection, "after_cursor_execute", judge.after_statement)
    try:
        run_revision(connection, script, revision)
    finally:
        event.remove(connection, "after_cursor_execute", judge.after_statement)
    return [*judge.found, *(judge.opened[each] for each in judge.opened.keys() & judge.is_open)]


class _Judge:
    def __init__(self, connection: Connection, path: Path) -> None:
        self.found: dict[Finding, None] = {}  # once each, also in a loop
        self._connection, self._path = connection, path
        self._is_reading = False
        self._before = self._read()
        self._there = {key[1] for key in self._before}
        self.opened: dict[tuple[str, str], Finding] = {}
        """For each rule and subject, the statement: a later one may close what it opens."""

    def _read(self) -> Catalogue:
        self._is_reading = True
        rows = self._connection.exec_driver_sql(SNAPSHOT).all()
        remedies = row_security_remedies(self._connection, as_published=True)
        self.is_open = {("published", name) for name in remedies}
        self.is_open |= {*map(tuple, self._connection.exec_driver_sql(OPEN))}
        self._is_reading = False
        return {(kind, table, number): _Thing(*rest) for kind, table, number, *rest in rows}

    def after_statement(self, _connection: object, _cursor: object, sql: str, *_rest: Any) -> None:
        """Judge a statement: SQLAlchemy's event."""
        if self._is_reading or "alembic_version" in sql:
            return
        level = self._connection.get_execution_options().get("isolation_level")
        open_before, after = self.is_open, self._read()
        old, new = (
            {key: thing for key, thing in things.items() if key[1] in self._there}
            for things in (self._before, after)
        )
        self._before = after
        line = _running_line(self._path)
        for rule, subject in _Statement(sql, level != "AUTOCOMMIT", old, new).judge():
            self.found[Finding(self._path, line, rule, subject, sql)] = None
        for rule, subject in self.is_open - open_before:
            self.opened[rule, subject] = Finding(self._path, line, rule, subject, sql)


class _Statement(NamedTuple):
    sql: str
    in_transaction: bool
    old: Catalogue
    new: Catalogue

    def judge(self) -> Iterator[tuple[str, str]]:
        """The rules that it breaks, each with what it breaks it for."""
        for key in {**self.old, **self.new}:
            before, after = self.old.get(key), self.new.get(key)
            if before == after:
                continue
            if rule := getattr(self, f"_judge_{key[0]}")(key, before, after):
                table = self.old.get(("table", key[1], 0), NOTHING).name
                name = (before or after or NOTHING).name
                if key[0] == "table" or rule in ("rewrite", "maintenance"):
                    yield rule, table
                else:
                    yield rule, f"{name} of {table}" if table else name
        if table := _table_of_many_rows(self.old, self.sql, in_transaction=self.in_transaction):
            yield "data", table

    def _judge_table(self, _key: Key, before: _Thing, after: _Thing | None) -> str:
        if after is None:
            return "drop-table"
        return "rename-table" if before.name != after.name else self._judge_rewriting()

    def _judge_rewriting(self) -> str:
        if "CONCURRENTLY" in self.sql.upper():
            return ""
        return "rewrite" if "ALTER" in self.sql.upper() else "maintenance"

    def _judge_column(self, key: Key, before: _Thing | None, after: _Thing | None) -> str:
        if after is None:
            return "drop-column" if ("table", key[1], 0) in self.new else ""
        if after.state == "required" and (before is None or before.state == "filled"):
            return "required-column"
        if before is None or before.name != after.name:
            return "rename-column" if before else ""
        check = ("c valid", f"CHECK (({after.name} IS NOT NULL))")
        is_checked = any(k[1] == key[1] and each[1:] == check for k, each in self.old.items())
        return "not-null" if before.state == "nullable" and not is_checked else ""

    def _judge_index(self, key: Key, before: _Thing | None, after: _Thing | None) -> str:
        table = ("table", key[1], 0)
        if after is None or self.old[table].stored != self.new[table].stored:
            return ""
        if after.stored in _files(self.old, "index"):  # renamed, or made a constraint's
            return ""
        if before:
            return self._judge_rewriting()
        is_alone = after.stored not in _files(self.new, "constraint")
        return "index" if is_alone and "CONCURRENTLY" not in self.sql.upper() else ""

    def _judge_constraint(self, _key: Key, before: _Thing | None, after: _Thing | None) -> str:
        if after is None or after.state.startswith("n"):  # NOT NULL is judged with its column
            return ""
        if before:
            return "validate" if before.state != after.state and self.in_transaction else ""
        if after.state[0] in "cf":
            return "constraint" if after.state.endswith("valid") else ""
        return "" if after.stored in _files(self.old, "index") else "unique"

    def _judge_member(self, _key: Key, before: _Thing | None, after: _Thing | None) -> str:
        if before:
            return "rename-member" if after else ""
        return "member" if self.in_transaction else ""


def _files(catalogue: Catalogue, kind: str) -> set[str]:
    return {thing.stored for key, thing in catalogue.items() if key[0] == kind}


def _table_of_many_rows(old: Catalogue, sql: str, *, in_transaction: bool) -> str:
    match = WRITE.search(sql) or (READ.match(sql) if in_transaction else None)
    found = {
        key[1]
        for key, thing in old.items()
        if match and thing.name.replace('"', "").rpartition(".")[2] == match["table"]
        if key[0] == "table"
    }
    if match is None or not found or not (in_transaction or not BATCH.search(sql)):
        return ""
    keys = [each.state for key, each in old.items() if key[0] == "index" and key[1] in found]
    names = "|".join(re.escape(key) for key in keys if key) or "(?!)"
    is_one = re.search(ONE_ROW.format(names=names), match["rest"], re.IGNORECASE)
    return "" if is_one else match["table"]


def _running_line(path: Path) -> int:
    frame = sys._getframe()  # noqa: SLF001 (the only way to ask who runs a statement)
    while frame.f_back and frame.f_code.co_filename != str(path):
        frame = frame.f_back
    return frame.f_lineno if frame.f_back else 0  # as in op.run_async()


def _without_waived(path: Path, found: list[Finding]) -> Iterator[Finding]:
    """Leave out what a comment on the operation waives; report comments that waive nothing."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    waivers = {
        number: match for number, line in enumerate(lines, 1) if (match := WAIVER.search(line))
    }
    statements = [each for each in ast.walk(ast.parse(source)) if isinstance(each, ast.stmt)]
    used = set()
    for finding in found:
        around = [
            (each.lineno, each.end_lineno or 0)
            for each in statements
            if each.lineno <= finding.line <= (each.end_lineno or 0)
        ]
        first, last = max(around, default=(1, len(lines)))
        while first > 1 and lines[first - 2].lstrip().startswith("#"):
            first -= 1
        waiving = {
            line
            for line in waivers.keys() & range(first, last + 1)
            if waivers[line]["rule"] == finding.rule and waivers[line]["reason"]
        }
        used |= waiving
        if not waiving:
            yield finding
    for line in sorted(waivers.keys() - used):
        yield Finding(path, line, "waiver", waivers[line]["rule"], lines[line - 1])
