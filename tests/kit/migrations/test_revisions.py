"""What a revision says, runs and leaves; each command in this process, on models of its own."""

import asyncio
import sys
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import CommandLine, Config
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeDecorator, UserDefinedType
from sqlmodel import Field, SQLModel

from app.core.config import BASE_DIR, settings
from kit.conventions import NAMING_CONVENTION
from kit.migrations import _autogenerate, _branches, _env
from kit.migrations._branches import ALEMBIC_DIR
from kit.migrations._upgrade import missing_revisions, read_objects
from kit.migrations.lint import Finding, find_unsafe


class World:
    """A service with a branch of its own and the extension `probe`, without any other table."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[], Any]):
        self.folder = folder
        self.metadata = sa.MetaData()
        self._read = read
        self.engine = sa.create_engine(settings.SYNC_DATABASE_URL, poolclass=NullPool)
        for branch in ("core", "service", "probe"):
            (folder / branch).mkdir()
        for module in (_autogenerate, _branches):
            monkeypatch.setattr(module, "version_location", folder.__truediv__)
            monkeypatch.setattr(module, "enabled_extensions", lambda: ["probe"])
        monkeypatch.setattr(Config, "print_stdout", lambda _, *said: sys.stdout.write(f"{said}"))
        monkeypatch.setattr(_env, "load_metadata", lambda: self.metadata)
        monkeypatch.setattr(_env, "version_locations", lambda: [*folder.iterdir()])

    def base(self) -> None:
        """A class for new models, in place of all that were there."""
        self.metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)

        class Base(SQLModel, registry=registry(metadata=self.metadata)):
            pass

        Base.metadata = self.metadata
        self.current = Base
        self.models: list[Any] = []

    def run(self, *arguments: str) -> str:
        self._read()
        CommandLine().main(["-c", str(BASE_DIR / "alembic.ini"), *arguments])
        output = self._read()
        return str(output.out + output.err)

    def refused(self, *arguments: str) -> str:
        with pytest.raises(SystemExit):
            self.run(*arguments)
        output = self._read()
        return str(output.out + output.err)

    def migrate(self, *options: str) -> str:
        """The code of the revisions that `make db-migrate` writes."""
        before = {*self.folder.rglob("*.py")}
        self.said = self.run(*options, "revision", "--autogenerate", "-m", "probe")
        new = sorted(
            {*self.folder.rglob("*.py")} - before, key=lambda path: path.stat().st_mtime_ns
        )
        return "\n".join(path.read_text() for path in new)

    def up(self) -> None:
        self.run("upgrade", "heads")

    def down(self, to: str = "service@-1") -> None:
        self.run("-x", "yes", "downgrade", to)

    def up_down_up(self, *, check: bool = True) -> None:
        """And the objects are as before after each."""
        before = self.objects()
        self.up()
        after = self.objects()
        self.down()
        assert self.objects() == before
        self.up()
        assert self.objects() == after
        if check:
            self.run("check")

    def lint(self) -> list[Finding]:
        script = ScriptDirectory(ALEMBIC_DIR, version_locations=[*self.folder.iterdir()])
        return asyncio.run(find_unsafe(script, list(missing_revisions(script, []))))

    def sql(self, statement: str) -> list[Any]:
        with self.engine.begin() as connection:
            result = connection.execute(sa.text(statement))
            return [*result.scalars()] if result.returns_rows else []

    def objects(self) -> set[str]:
        with self.engine.connect() as connection:
            return read_objects(connection)


@pytest.fixture
def world(
    tmp_path: Path,
    fresh_database: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> World:
    return World(tmp_path, monkeypatch, capfd.readouterr)


def enumeration(name: str, *members: str) -> Any:
    return StrEnum(name, {member: member for member in members})


def probe(world: World, *, fields: dict[str, Any], table: str = "probe", **options: Any) -> None:
    """Declare a model with these fields, each a type and a `Field`."""
    annotations = {name: kind for name, (kind, _) in fields.items()}
    values = {name: field for name, (_, field) in fields.items()}
    key = {"id": Field(default=None, primary_key=True)}
    body = {"__annotations__": {"id": int | None, **annotations}, **key, **values, **options}
    body = {"__module__": __name__, "__tablename__": table, **body}
    made: Any = type(SQLModel)
    world.models.append(made(table.title(), (world.current,), body, table=True))


def probe_with_a_row(world: World) -> None:
    """Make the table without further columns, and a row in it."""
    world.base()
    probe(world, fields={})
    world.migrate()
    world.up()
    world.sql("INSERT INTO probe DEFAULT VALUES")


class TestEnumerations:
    def declare(self, world: World, *members: str, default: str = "", **options: Any) -> None:
        mood = enumeration("Mood", *members)
        type_ = sa.Enum(mood, name="mood", **options)
        world.base()
        calm = sa.Index("ix_probe_calm", "id", postgresql_where=sa.text("mood = 'calm'"))
        probe(
            world,
            __table_args__=(calm, sa.CheckConstraint("mood >= 'calm'", name="mood")),
            fields={
                "mood": (
                    mood,
                    Field(sa_type=type_, sa_column_kwargs={"server_default": default or None}),
                )
            },
        )
        probe(
            world,
            table="other",
            fields={"moods": (list, Field(sa_type=postgresql.ARRAY(type_)))},
        )

    def test_one_of_two_tables_and_an_array(self, world: World) -> None:
        self.declare(world, "calm", "wild")
        assert world.migrate().count("CREATE TYPE mood AS ENUM ('calm', 'wild')") == 1
        world.up_down_up()
        world.base()
        assert "DROP TYPE mood" in world.migrate()
        world.up_down_up()

    def test_members_added_and_used_by_a_later_revision(self, world: World) -> None:
        self.declare(world, "calm", "wild", default="calm")
        world.migrate()
        world.up()
        self.declare(world, "new", "calm", "odd", "wild", "last", default="calm")
        code = world.migrate()
        assert "autocommit_block" in code
        world.up_down_up()
        world.sql("INSERT INTO other (moods) VALUES ('{odd,last}')")
        world.refused("-x", "yes", "downgrade", "service@-1")
        assert world.sql("SELECT moods::text FROM other") == ["{odd,last}"]
        world.sql("DELETE FROM other")
        self.declare(world, "new", "calm", "odd", "wild", "last", default="odd")
        world.migrate()
        world.up_down_up()
        world.down("base")
        world.up()

    def test_a_member_that_looks_renamed(self, world: World) -> None:
        self.declare(world, "calm", "wild")
        world.migrate()
        world.up()
        world.sql("INSERT INTO probe (mood) VALUES ('wild')")
        self.declare(world, "calm", "lively")
        assert "RENAME VALUE 'wild' TO 'lively'" in world.migrate()
        assert "Rows that have wild have lively then" in world.said
        world.up_down_up()
        assert world.sql("SELECT mood::text FROM probe") == ["lively"]

    def test_a_member_removed_that_a_row_has(self, world: World) -> None:
        self.declare(world, "calm", "odd", "wild", default="calm")
        world.migrate()
        world.up()
        world.sql("INSERT INTO probe (mood) VALUES ('odd')")
        self.declare(world, "calm", "wild", default="calm")
        world.migrate()
        assert "while a row has odd" in world.said
        assert 'invalid input value for enum mood: "odd"' in world.refused("upgrade", "heads")
        assert world.sql("SELECT mood::text FROM probe") == ["odd"]
        world.sql("UPDATE probe SET mood = 'wild'")
        world.up_down_up()

    def test_a_default_among_members_that_change(self, world: World) -> None:
        probe_with_a_row(world)
        for default, *others in (("calm", "wild"), ("new", "calm", "wild"), ("wild", "new")):
            mood = enumeration("Mood", *others, default)
            world.base()
            probe(world, fields={"mood": (mood, mood[default])})
            world.migrate()
            assert "Fails as it is" not in world.said
            world.up_down_up()
            world.sql("DELETE FROM probe; INSERT INTO probe DEFAULT VALUES")
            assert world.sql("SELECT mood::text FROM probe") == [default]

    def test_as_text(self, world: World) -> None:
        for members in (("calm",), ("calm", "lively")):
            world.base()
            type_ = sa.Enum(enumeration("Mood", *members), native_enum=False, length=20)
            probe(world, fields={"mood": (str, Field(sa_type=type_))})
            assert bool(world.migrate()) == (len(members) == 1)
            world.up()

    def test_in_another_schema_and_added_to_rows(self, world: World) -> None:
        probe_with_a_row(world)
        world.base()
        mood = enumeration("Mood", "it's :off", "calm")
        type_ = sa.Enum(mood, name="Mood Of", schema="ledger")
        probe(world, fields={"mood": (mood, Field(sa_type=type_, default=mood.calm))})
        world.migrate()
        world.up_down_up()
        assert world.sql("SELECT mood::text FROM probe") == ["calm"]

    def test_two_of_one_name(self, world: World) -> None:
        world.base()
        for table, member in (("probe", "calm"), ("other", "wild")):
            mood = enumeration("Mood", member)
            probe(world, table=table, fields={"mood": (mood, Field())})
        said = world.refused("revision", "--autogenerate")
        assert "name one of the enumerations of" in said


class TestDomains:
    def declare(self, world: World, check: str = "VALUE LIKE '%@%'", *, is_added: bool) -> None:
        mail = postgresql.DOMAIN("mail", sa.Text(), constraint_name="ck_mail", check=check)
        world.base()
        added = {"others": (list, Field(sa_type=postgresql.ARRAY(mail), nullable=True))}
        probe(world, fields={"name": (str, Field()), **(added if is_added else {})})
        if is_added:
            probe(world, table="other", fields={"mail": (str, Field(sa_type=mail))})

    def test_one_of_a_new_table_and_of_an_array(self, world: World) -> None:
        self.declare(world, is_added=False)
        world.migrate()
        world.up()
        self.declare(world, is_added=True)
        assert world.migrate().count("CREATE DOMAIN mail AS TEXT") == 1
        world.up_down_up()
        with pytest.raises(sa.exc.IntegrityError, match="ck_mail"):
            world.sql("INSERT INTO other (mail) VALUES ('ada')")
        self.declare(world, is_added=False)
        assert "DROP TYPE mail" in world.migrate()
        world.up_down_up()

    def test_another_rule_is_written_by_hand(self, world: World) -> None:
        self.declare(world, is_added=True)
        world.migrate()
        world.up()
        self.declare(world, "VALUE LIKE '%@%.%'", is_added=True)
        said = world.refused("revision", "--autogenerate", "-m", "probe")
        assert "Alembic does not write this: the migrations lack domains: mail text" in said


def test_a_sequence_of_a_column(world: World) -> None:
    world.base()
    number = sa.Sequence("probe_number", start=1000, metadata=world.metadata)
    column = sa.Column(sa.Integer, number, server_default=number.next_value(), nullable=False)
    probe(world, fields={"number": (int, Field(sa_column=column))})
    assert world.migrate().count("CREATE SEQUENCE probe_number START WITH 1000") == 1
    world.up_down_up()
    world.sql("INSERT INTO probe DEFAULT VALUES")
    assert world.sql("SELECT number FROM probe") == [1000]


def test_another_identity(world: World) -> None:
    def declare(*identity: sa.Identity) -> None:
        world.base()
        column = sa.Column(sa.Integer, *identity, nullable=False)
        probe(world, fields={"number": (int, Field(sa_column=column))})

    declare(sa.Identity(start=1000))
    world.migrate()
    world.up()
    for identity in ([sa.Identity(always=True, start=1000)], []):
        declare(*identity)
        assert "Fails" not in world.migrate()
        world.up_down_up()


def test_a_reference_to_a_table_of_supabase_is_explained(world: World) -> None:
    world.base()
    probe(world, fields={"user_id": (int, Field(foreign_key="auth.users.id"))})
    said = world.refused("revision", "--autogenerate", "-m", "probe")
    assert "could not find table 'auth.users'" in said
    assert "leave the foreign key out of the model" in said


def test_a_model_of_another_metadata_is_named(world: World) -> None:
    class Other(DeclarativeBase):
        """A second base."""

    class Plain(Other):
        __tablename__ = "probe_of_another_base"
        id: Mapped[int] = mapped_column(primary_key=True)

    world.base()
    world.migrate()
    assert f"SQLModel's: probe_of_another_base ({Plain.__module__}.Plain)" in world.said


MOOD = enumeration("Mood", "calm", "it's")
CONSTANTS: dict[str, tuple[Any, Any]] = {
    "is_gift": (bool, False),
    "grams": (int, 7),
    "title": (str, "it's 5 % :off"),
    "path": (str, Field(default="a\\b", max_length=20)),
    "price": (Decimal, Field(default=Decimal("1.50"), max_digits=8, decimal_places=2)),
    "mood": (MOOD, MOOD.calm),
    "word": (str, Field(sa_type=sa.Enum(MOOD, native_enum=False), default=MOOD.calm)),
    "day": (date, date(2026, 11, 28)),
}
JSON: dict[str, tuple[Any, Any]] = {
    "tags": (list, Field(sa_type=sa.JSON, sa_column_kwargs={"server_default": "[]"})),
    "more": (dict, Field(sa_type=postgresql.JSONB, sa_column_kwargs={"server_default": "{}"})),
}


class TestRows:
    def test_columns_added_to_rows(self, world: World) -> None:
        """Rows that are there get the model's constant, and what older code inserts has it too."""
        probe_with_a_row(world)
        world.base()
        probe(world, fields=CONSTANTS | JSON)
        world.migrate()
        world.up_down_up()
        world.sql("INSERT INTO probe DEFAULT VALUES")
        row = [False, 7, "it's 5 % :off", "a\\b", 1.5, "calm", "calm", "2026-11-28"]
        for key in (1, 2):
            query = f"SELECT to_jsonb(probe) - 'id' FROM probe WHERE id = {key}"  # noqa: S608
            found = world.sql(query)[0]
            assert [found[name] for name in CONSTANTS | JSON] == [*row, [], {}]
        assert "agree" in (world.migrate(), world.said)[1]
        assert world.lint() == []
        with world.engine.connect() as connection:
            assert not _env._differ(connection, world.metadata, {"probe"})

    def test_a_default_that_changes_in_the_model(self, world: World) -> None:
        """It changes in the database too, unless it is not there, as with older revisions."""
        probe_with_a_row(world)
        world.base()
        probe(world, fields={"title": (str, "it is :on"), "grams": (int, 7)})
        world.migrate()
        path = max(
            (world.folder / "service").glob("*.py"), key=lambda each: each.stat().st_mtime_ns
        )
        dropped = '    op.alter_column("probe", "grams", server_default=None)\n'
        path.write_text(
            path.read_text().replace("\n\ndef downgrade", f"{dropped}\n\ndef downgrade")
        )
        world.up_down_up()
        world.base()
        probe(world, fields={"title": (str, "it is :off"), "grams": (int, 8)})
        assert "grams" not in world.migrate()
        world.up_down_up()
        world.sql("INSERT INTO probe (grams) VALUES (9)")
        assert world.sql("SELECT title FROM probe ORDER BY id") == ["it is :on", "it is :off"]

    def test_a_column_added_to_rows_that_no_constant_fills(self, world: World) -> None:
        probe_with_a_row(world)
        world.base()
        probe(
            world, fields={"code": (str, Field()), "at": (date, Field(default_factory=date.today))}
        )
        assert world.migrate().count("# Fails while probe has rows") == 2

    def test_what_rows_lose(self, world: World) -> None:
        world.base()
        probe(
            world,
            fields={
                "old": (str | None, None),
                "title": (str | None, Field(max_length=200)),
                "grams": (int, Field(sa_type=sa.BigInteger)),
                "wide": (str, Field(max_length=20)),
            },
        )
        world.migrate()
        world.up()
        world.base()
        probe(
            world,
            fields={
                "new": (str | None, None),
                "title": (str, Field(max_length=20)),
                "grams": (int, Field()),
                "wide": (str, Field(max_length=200)),
            },
        )
        code = world.migrate()
        for note in (
            "The values of probe.old are lost. If it is called new now",
            "Fails while a row of probe has no title",
            "Makes VARCHAR(20) of each VARCHAR(200) of probe.title",
            "Makes INTEGER of each BIGINT of probe.grams",
        ):
            assert note in world.said
        assert "of probe.wide" not in world.said
        assert code.count("# ") >= 4
        world.up_down_up()

    def test_a_table_that_looks_renamed(self, world: World) -> None:
        for table in ("probe", "other"):
            world.base()
            probe(world, table=table, fields={"title": (str, Field())})
            world.migrate()
            world.up_down_up()
        assert "called other now, keep the table by __tablename__ = 'probe'" in world.said

    def test_an_index_on_a_table_that_is_there(self, world: World) -> None:
        world.base()
        probe(world, fields={"title": (str, Field())})
        world.migrate()
        world.up()
        world.base()
        probe(
            world,
            fields={"title": (str, Field(unique=True, index=True)), "kind": (str | None, None)},
        )
        code = world.migrate()
        assert code.count("down_revision") == 2
        world.sql("INSERT INTO probe (title) VALUES ('twice'), ('twice')")
        world.refused("upgrade", "heads")
        world.sql("DELETE FROM probe")
        world.up()
        world.run("check")
        world.down()
        world.up_down_up()

    def test_an_index_that_fails_as_it_is_can_be_mended(self, world: World) -> None:
        """Here the PostgreSQL extension that it needs is missing, which no model asks for."""
        world.base()
        probe(world, fields={"title": (str, Field())})
        world.migrate()
        world.up()
        world.base()
        operators = {"title": "gin_trgm_ops"}
        index = sa.Index(
            "ix_probe_title", "title", postgresql_using="gin", postgresql_ops=operators
        )
        probe(world, fields={"title": (str, Field())}, __table_args__=(index,))
        assert world.migrate().count("down_revision") == 1
        assert "Fails as it is" in world.said
        world.sql("CREATE EXTENSION pg_trgm")
        world.up_down_up(check=False)


class TestOtherSchemas:
    def test_it_is_made_and_compared(self, world: World) -> None:
        for more in ({}, {"grams": (int, 1)}):
            world.base()
            probe(world, fields=more, __table_args__={"schema": "ledger"})
            assert "op." in world.migrate()
            world.up_down_up()
            assert "agree" in (world.migrate(), world.said)[1]
        world.down("base")
        assert not [each for each in world.objects() if "ledger" in each]

    def test_a_reset_empties_it(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_env, "load_metadata", lambda: world.metadata)
        world.base()
        number = Field(default=None, sa_column_args=(sa.Identity(),))
        probe(world, fields={"number": (int, number)}, __table_args__={"schema": "ledger"})
        world.migrate()
        world.up()
        world.sql("INSERT INTO ledger.probe DEFAULT VALUES")
        script = ScriptDirectory(BASE_DIR / "alembic", version_locations=[*world.folder.iterdir()])
        with world.engine.connect() as connection:
            _env.reset_database(connection, script)
        assert world.sql("SELECT count(*) FROM ledger.probe") == [0]


class TestBranches:
    def declare(self, world: World, *references: tuple[str, str]) -> None:
        """Tables, each with the one that it refers to, if any; rooms are the extension's."""
        world.base()
        for table, other in references:
            key = sa.ForeignKey(f"{other}.id", use_alter=table == "guest")
            field = Field(default=None, sa_column_args=(key,) if other else ())
            more = {"__module__": "app.extensions.probe.models"} if table == "room" else {}
            probe(world, table=table, fields={"other_id": (int | None, field)}, **more)

    def test_both_ways(self, world: World) -> None:
        self.declare(world, ("guest", ""))
        world.migrate()
        self.declare(world, ("guest", ""), ("room", "guest"))
        assert 'depends_on = "' in world.migrate("-x", "extension=probe"), world.said
        self.declare(world, ("guest", "room"), ("room", "guest"))
        assert 'depends_on = "probe_' in world.migrate()
        world.up()
        world.run("check")
        self.declare(world, ("guest", ""), ("room", ""))
        world.migrate("-x", "extension=probe")
        assert 'depends_on = "probe_' in world.migrate()
        self.declare(world, ("room", ""))
        world.migrate()
        world.up()
        world.run("check")
        world.down("service@base")
        world.up()
        world.down("base")
        assert not [each for each in world.objects() if "guest" in each or "room" in each]

    def test_neither_can_come_first(self, world: World) -> None:
        self.declare(world, ("guest", "room"), ("room", "guest"))
        said = world.refused("-x", "extension=probe", "revision", "--autogenerate")
        assert "room refers to guest, which has no migration yet" in said
        assert "guest refers back" in said


BY_HAND = """
import sqlalchemy as sa
from alembic import op

revision = "by_hand"
down_revision = {before!r}
branch_labels = None
depends_on = None


async def fill(connection):
    await connection.execute(sa.text("INSERT INTO probe (title, price) VALUES ('a', '7')"))


def upgrade() -> None:
    op.execute("CREATE EXTENSION pg_trgm")
    op.execute("CREATE INDEX ix_probe_title ON probe USING gin (title gin_trgm_ops)")
    op.execute("CREATE FUNCTION code() RETURNS text LANGUAGE sql AS 'SELECT ''x''::text'")
    op.execute("ALTER TABLE probe ADD code text DEFAULT code() NOT NULL")
    op.execute("CREATE VIEW titles AS SELECT title FROM probe")
    op.execute(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
    )
    op.execute(
        "CREATE TRIGGER note BEFORE UPDATE ON probe FOR EACH ROW EXECUTE FUNCTION note()"
    )
    op.run_async(fill)
    op.alter_column("probe", "price", type_=sa.Integer(), postgresql_using="price::integer")
    op.execute("CREATE POLICY everybody ON probe FOR SELECT USING (true)")


def downgrade() -> None:
    op.execute("DROP POLICY everybody ON probe")
    op.alter_column("probe", "price", type_=sa.String())
    op.execute("DROP TRIGGER note ON probe")
    op.execute("DROP FUNCTION note")
    op.execute("DROP VIEW titles")
    op.drop_column("probe", "code")
    op.execute("DROP FUNCTION code")
    op.drop_index("ix_probe_title", "probe")
    op.execute("DROP EXTENSION pg_trgm")
"""


class TestByHand:
    def test_what_no_model_describes(self, world: World) -> None:
        world.base()
        probe(world, fields={"title": (str, Field()), "price": (str, Field())})
        world.migrate()
        world.up()
        [first] = world.folder.rglob("*.py")
        before = first.read_text().partition('revision = "')[2].partition('"')[0]
        (first.parent / "by_hand.py").write_text(BY_HAND.format(before=before))
        world.up_down_up(check=False)
        assert "Detected removed index" in world.migrate() + world.said
        world.base()
        trigrams: Any = {"postgresql_using": "gin", "postgresql_ops": {"title": "gin_trgm_ops"}}
        probe(
            world,
            fields={
                "title": (str, Field()),
                "price": (int, Field()),
                "code": (
                    str,
                    Field(sa_type=sa.Text, sa_column_kwargs={"server_default": sa.text("code()")}),
                ),
            },
            __table_args__=(sa.Index("ix_probe_title", "title", **trigrams),),
        )
        for file in {*world.folder.rglob("*.py")} - {first, first.parent / "by_hand.py"}:
            file.unlink()
        assert not world.migrate()
        assert "agree" in world.said
        for unseen in ("views: titles", "triggers: ", "policies: ", "extensions: pg_trgm"):
            assert f"Not compared, as no model describes it: {unseen}" in world.said

    def test_a_member_that_the_next_revision_uses(self, world: World) -> None:
        statements = ["CREATE TYPE mood AS ENUM ('calm')", "alter type mood add value 'wild'"]
        statements.append("CREATE TABLE probe AS SELECT 'wild'::mood AS mood")
        for number, statement in enumerate(statements):
            before = str(number - 1) if number else None
            (world.folder / f"service/{number}.py").write_text(
                f"from alembic import op\nrevision = '{number}'\ndown_revision = {before!r}\n"
                f"def upgrade():\n    op.execute({statement!r})\n"
            )
        world.up()
        assert world.sql("SELECT mood::text FROM probe") == ["wild"]

    def test_what_alembic_does_not_write(self, world: World) -> None:
        """A check of the same name, other than before."""
        for limit in (1, 2):
            world.base()
            check = sa.CheckConstraint(f"grams > {limit}", name="grams")
            probe(world, fields={"grams": (int, 3)}, __table_args__=(check,))
            if limit == 1:
                assert "ck_probe_grams" in world.migrate()
                world.up()
        said = world.refused("revision", "--autogenerate", "-m", "probe")
        assert "Write a revision by hand" in said
        assert "ADD CONSTRAINT ck_probe_grams CHECK ((grams > 2))" in said
        assert "ADD CONSTRAINT ck_probe_grams CHECK ((grams > 2))" in world.refused("check")


class Polygon(UserDefinedType[str]):
    """A type that is not SQLAlchemy's, as of another library."""

    cache_ok = True

    def __init__(self, precision: int = 1) -> None:
        self.precision = precision

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.precision})"

    def get_col_spec(self, **_options: Any) -> str:
        return "polygon"


class Decorated(TypeDecorator[int]):
    """A type of the owner's, of which the database knows nothing."""

    impl = sa.BigInteger
    cache_ok = True


def test_a_word_after_a_colon_is_no_parameter(world: World) -> None:
    for has_check in (True, False):
        rules: list[Any] = [
            sa.Index("ix_title", "title", postgresql_where=sa.text(r"title <> '\:off'"))
        ]
        if has_check:
            rules.append(sa.CheckConstraint(r"title ~ '^(?\:AB|CD)'", name="title"))
        world.base()
        probe(world, fields={"title": (str, Field())}, __table_args__=tuple(rules))
        world.migrate()
        world.up_down_up()
        found = [each for each in world.objects() if "?:AB" in each or "':off'" in each]
        assert len(found) == len(rules)


def test_types_of_others_are_imported(world: World) -> None:
    world.base()
    decorated = Field(sa_type=Decorated)
    probe(
        world,
        fields={
            "area": (str, Field(sa_type=Polygon(2))),
            "amount": (int, decorated),
            "wait": (timedelta, Field()),
        },
    )
    code = world.migrate()
    assert "sa.Interval()" in code
    assert 'sa.Column("amount", sa.BigInteger()' in code
    assert f"import {__name__}" in code
    assert f"{__name__}.Polygon(2)" in code
