"""`make seed`: whose rows it makes, what they refer to, and what it refuses."""

import asyncio
import io
import re
import sys
from collections import Counter
from itertools import count, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlmodel import Session, select

from app.extensions._example.models import ExampleNote, ExampleNoteInput
from kit.commands import seed as command
from kit.commands.seed import Factories, find_factories, seed
from kit.migrations import init_db
from kit.migrations._branches import write_note
from kit.resource import Request, _writing
from kit.settings import BASE_DIR, StartupError
from kit.testing import change_settings
from kit.tests.migrations.test_startup import replace_rows


class Base(DeclarativeBase):
    """Tables of these tests alone."""


class Customer(Base):
    __tablename__ = "seeded_customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("seeded_customer.id"))


class Account(Base):
    """One a customer."""

    __tablename__ = "seeded_account"
    id: Mapped[int] = mapped_column(primary_key=True)
    opened_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("seeded_customer.id"))
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey("seeded_customer.id"), unique=True)


class Invoice(Base):
    __tablename__ = "seeded_invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("seeded_customer.id"))
    payer_id: Mapped[int | None] = mapped_column(sa.ForeignKey("seeded_customer.id"))
    customer: Mapped[Customer] = relationship(foreign_keys=[customer_id])


class Label(Base):
    """Of a customer and an invoice, once each."""

    __tablename__ = "seeded_label"
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("seeded_customer.id"), primary_key=True)
    invoice_id: Mapped[int] = mapped_column(sa.ForeignKey("seeded_invoice.id"), primary_key=True)


_numbers = count(1)


def make_customer(**values: Any) -> Customer:
    return Customer(**{"name": f"Customer {next(_numbers)}"} | values)


def make_account(**values: Any) -> Account:
    return Account(**values)


def make_invoice(**values: Any) -> Invoice:
    made_up = {} if "customer_id" in values else {"customer": make_customer()}
    return Invoice(**made_up | values)


def make_invoice_alone() -> Invoice:
    return Invoice(customer=make_customer())


def make_label(**values: Any) -> Label:
    return Label(**values)


def of(*factories: Any) -> Factories:
    return {sa.inspect(each.__annotations__["return"]): [each] for each in factories}


@pytest.fixture
def session(sync_db_session: Session) -> Session:
    """A session with the tables above, empty."""
    Base.metadata.create_all(sync_db_session.connection())
    return sync_db_session


class TestReferences:
    def test_rows_are_spread_over_those_that_are_there(self, session: Session) -> None:
        _, added = seed(session, of(make_customer, make_invoice), 20)
        assert added == {"seeded_customer": 20, "seeded_invoice": 20}
        invoices = Counter(session.scalars(sa.select(Invoice.customer_id)))
        assert len(invoices) == 10
        assert set(invoices.values()) == {2}
        assert session.scalars(sa.select(Invoice.payer_id)).all().count(None) == 5

    def test_a_row_of_a_tree_refers_to_an_earlier_one(self, session: Session) -> None:
        seed(session, of(make_customer), 20)
        parents = session.execute(sa.select(Customer.id, Customer.parent_id)).all()
        assert all(parent < row for row, parent in parents if parent is not None)
        assert len({parent for _, parent in parents}) > 5

    def test_one_that_may_be_referred_to_once_is(self, session: Session) -> None:
        _, added = seed(session, of(make_customer, make_account), 20)
        assert added["seeded_account"] == 20

    def test_no_pair_comes_twice(self, session: Session) -> None:
        _, added = seed(session, of(make_customer, make_invoice, make_label), 20)
        assert added["seeded_label"] == 20

    def test_rows_of_a_table_that_is_left_are_referred_to(self, session: Session) -> None:
        session.add(make_customer(id=7))
        left, added = seed(session, of(make_customer, make_invoice), 2)
        assert left == ["seeded_customer"]
        assert added == {"seeded_invoice": 2}
        assert set(session.scalars(sa.select(Invoice.customer_id))) == {7}

    def test_what_a_factory_makes_beside_its_row_is_counted(self, session: Session) -> None:
        _, added = seed(session, of(make_invoice_alone), 3)
        assert added == {"seeded_invoice": 3, "seeded_customer": 3}


def failing(**values: Any) -> Customer:
    raise LookupError("no name is left")


def nameless(**values: Any) -> Customer:
    return Customer(**values)


class TestFailure:
    @pytest.mark.parametrize(
        ("factory", "reason"),
        [
            (failing, "failing: LookupError: no name is left"),
            (nameless, 'nameless: IntegrityError: null value in column "name"'),
        ],
    )
    def test_the_factory_is_named_and_nothing_is_written(
        self, session: Session, monkeypatch: pytest.MonkeyPatch, factory: Any, reason: str
    ) -> None:
        session.commit()
        factories = of(make_invoice_alone) | {sa.inspect(Customer): [make_customer, factory]}
        monkeypatch.setattr(command, "find_factories", lambda: factories)
        with pytest.raises(StartupError) as caught:
            command.main(["--rows", "3"])
        assert caught.value.message.startswith(f"nothing was written: {__name__}.{reason}")
        assert session.scalars(sa.select(Invoice)).all() == []


with_a_factory = pytest.mark.skipif(
    not (BASE_DIR / "app/extensions/_example/tests/factories").is_dir(),
    reason="this service's _example is of a release without a factory",
)


class TestFactories:
    def notes(self, session: Session) -> list[ExampleNote]:
        return [*session.exec(select(ExampleNote).order_by(ExampleNote.id)).all()]  # type: ignore[arg-type]

    @with_a_factory
    def test_those_of_an_extension_are_found(
        self, sync_db_session: Session, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command.main(["--rows", "3"])
        assert "example_note: 3 rows\n" in capsys.readouterr().out
        notes = self.notes(sync_db_session)
        assert len({note.title for note in notes}) == 3
        for note in notes:
            ExampleNoteInput.model_validate(note, from_attributes=True)

        command.main(["--rows", "3"])
        assert "example_note: left as it is, since it has rows" in capsys.readouterr().out
        assert self.notes(sync_db_session) == notes

    @with_a_factory
    def test_each_run_makes_the_same_rows(self, sync_db_session: Session) -> None:
        runs = []
        for _ in range(2):
            # As in another process, whose factories begin with the first number.
            for name in [name for name in sys.modules if ".tests.factories." in name]:
                del sys.modules[name]
            command.main(["--rows", "5"])
            notes = self.notes(sync_db_session)
            runs.append([note.model_dump(exclude={"id", "created_at"}) for note in notes])
            for note in notes:
                sync_db_session.delete(note)
            sync_db_session.commit()
        assert runs[0] == runs[1]

    def test_any_function_that_returns_a_model_is_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def make_note() -> ExampleNote:
            raise NotImplementedError

        def make_title() -> str:
            raise NotImplementedError

        def make_stored(session: Session) -> ExampleNote:
            raise NotImplementedError

        async def make_later() -> ExampleNote:
            raise NotImplementedError

        def make_anything():  # type: ignore[no-untyped-def]
            raise NotImplementedError

        def note() -> ExampleNote:
            raise NotImplementedError

        module = ModuleType(__name__)
        others = (make_stored, make_later, make_title, make_anything, note, make_customer)
        for each in (make_note, *others):
            setattr(module, each.__name__, each)
        (tmp_path / "tests" / "factories").mkdir(parents=True)
        monkeypatch.setattr(command, "BASE_DIR", tmp_path)
        monkeypatch.setattr(command, "import_modules", lambda _: [module])
        assert [*find_factories().values()] == [[make_note]]
        left_out = "left out, since it is async or needs arguments"
        assert capsys.readouterr().out == f"make_later: {left_out}\nmake_stored: {left_out}\n"

    def test_without_one_it_says_how_to_get_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(command, "BASE_DIR", tmp_path)
        with pytest.raises(StartupError, match="`make resource` writes one with each resource"):
            command.main([])


class TestRefusals:
    @pytest.fixture(autouse=True)
    def factories(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those of the service do not matter, nor whether it has some."""
        monkeypatch.setattr(command, "find_factories", lambda: of(make_customer))

    def test_less_than_a_row(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            command.main(["--rows", "0"])
        assert "--rows is at least 1, not 0" in capsys.readouterr().err

    def test_elsewhere_than_in_local(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change_settings(monkeypatch, ENVIRONMENT="staging")
        with pytest.raises(StartupError, match="^Set ENVIRONMENT=local .* ENVIRONMENT is staging"):
            command.main([])

    def test_a_database_elsewhere_is_asked_for_by_its_name(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        change_settings(monkeypatch, POSTGRES_HOST="db.example.com", POSTGRES_DB="shop")
        monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
        with pytest.raises(StartupError, match="nothing was changed: the answer was not 'shop'"):
            command.main([])
        said = capsys.readouterr().out
        assert said.startswith(
            "Made-up rows will be added to the database 'shop' on db.example.com"
        )

    def test_productions_database_whatever_the_settings_say(self, sync_db_session: Session) -> None:
        write_note(sync_db_session.connection(), {"environment": "production"})
        sync_db_session.commit()
        with pytest.raises(StartupError, match="is never seeded: it was migrated with"):
            command.main([])

    def test_pending_migrations(self, fresh_database: str) -> None:
        asyncio.run(init_db())
        asyncio.run(replace_rows("core_0001"))
        with pytest.raises(StartupError, match="behind the code.* Run `make db-upgrade` first"):
            command.main([])


UNIQUE = ("str", "str(5)", "email", "url", "uuid", "int", "int(5,5000)", "bigint", "date")
FIELDS = [f"unique_{number}:{kind}!" for number, kind in enumerate(UNIQUE)] + [
    f"field_{number}:{kind}"
    for number, kind in enumerate(
        (
            *(
                "str",
                "str(1)",
                "str(5)",
                "str(9)",
                "str(12)",
                "str?",
                "text",
                "text(3)",
                "text(30)",
            ),
            *("email", "url?", "uuid", "int", "int(0,1)", "int(-9,-3)", "int(1,1000)", "bigint"),
            *("bigint(0,9000000000)", "bool", "date", "datetime?", "time", "duration?"),
            *("float", "float(0,1)", "float(-2,0.5)", "float(-1e308,1e308)", "enum(a,b-c,d)?"),
            *("decimal(1,0)", "decimal(1,1)", "decimal(10,2)", "decimal(28,28)", "decimal(28,0)"),
            *("list(str)", "list(int)", "list(float)", "list(bool)", "json", "json?"),
        )
    )
]


def test_the_input_of_the_api_accepts_what_a_written_factory_makes_up() -> None:
    texts = _writing._texts(Request("Sample", " ".join(FIELDS)))[0]
    model = texts[BASE_DIR / "app" / "models" / "sample.py"].partition("\n\nclass Sample(")[0]
    factory = texts[BASE_DIR / "tests" / "factories" / "sample.py"]
    names: dict[str, Any] = {"Sample": dict}
    exec(model, names)  # noqa: S102 (up to the table, which would join those of the service)
    exec(re.sub("(?m)^from app.*", "", factory), names)  # noqa: S102
    rows = [names["make_sample"]() for _ in range(200)]

    assert [names["SampleInput"].model_validate(row).model_dump() for row in rows] == rows
    for field in FIELDS:
        name, _, kind = field.partition(":")
        values = [row[name] for row in rows]
        assert all(one != other for one, other in pairwise(values)), field
        assert (None in values) == ("?" in kind), field
        if "!" in kind:
            assert len({*values}) == len(values), field
