"""Every type of column that SQLAlchemy and its PostgreSQL dialect have, in the admin."""

import inspect
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ConfigDict, model_validator
from pydantic import Field as PydanticField
from sqladmin import ModelView
from sqladmin.filters import OperationColumnFilter
from sqlalchemy import Column, cast, select
from sqlalchemy import String as TextType
from sqlalchemy import types as sql
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql import BitString, Range
from sqlalchemy.orm import registry
from sqlmodel import Field, Session, SQLModel, text
from starlette.middleware import Middleware

from kit.admin import IsSetFilter, ServiceAdmin, admin_session_maker
from kit.admin._audit import AdminRequest
from kit.admin._authentication import AdminRequestGuard
from kit.settings import StartupError
from kit.tests.admin.browser_form import BrowserForm

# SQLAlchemy 2.1 asks each type for its operator classes; some of its own have none.
pytestmark = pytest.mark.filterwarnings("ignore:Type object:sqlalchemy.exc.SADeprecationWarning")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Cents(sql.TypeDecorator[Decimal]):
    """Money, stored as an integer."""

    impl = sql.Integer
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Any) -> int | None:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: Any, _dialect: Any) -> Decimal | None:
        return None if value is None else Decimal(value) / 100


class Tree(sql.UserDefinedType[str]):
    """A type that SQLAlchemy does not know."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "pg_lsn"


class Kind(NamedTuple):
    type: Any
    annotation: Any
    value: Any
    typed: Any = None
    """What a person types to enter the value; None where that is `str(value)`."""


MOMENT = datetime(2026, 1, 31, 10, 20, 30, 123456)  # noqa: DTZ001
DAYS = Range(date(2026, 1, 1), date(2026, 2, 1))
HOURS = Range(MOMENT, MOMENT + timedelta(hours=1))
ZONED = Range(MOMENT.replace(tzinfo=UTC), MOMENT.replace(tzinfo=UTC) + timedelta(hours=1))
SEVEN = Kind(sql.Integer(), int, 7)
PRICE = Kind(sql.Numeric(12, 4), Decimal, Decimal("12.3400"))
PART = Kind(sql.Float(), float, 0.1)
WORD = Kind(sql.String(), str, "ä 100% \\ 'b' <i>")
BINARY = Kind(sql.LargeBinary(), bytes, b"\x00\xff'", "\\x00ff27")
JSON = Kind(sql.JSON(), dict[str, Any], {"a": [1, None, "ä"]}, '{"a": [1, null, "ä"]}')
STAMP = Kind(sql.DateTime(), datetime, MOMENT)
ZONED_STAMP = Kind(
    sql.DateTime(timezone=True), datetime, MOMENT.replace(tzinfo=UTC), "2026-01-31 10:20:30.123456"
)
LENGTH = Kind(sql.Interval(), timedelta, timedelta(days=-1, seconds=5, microseconds=7))
CODE = Kind(sql.Uuid(), uuid.UUID, uuid.UUID(int=7))
STATE = Kind(sql.Enum(Colour, name="column_colour"), Colour, Colour.BLUE, "BLUE")


def of(kind: Kind, type_: Any) -> Kind:
    return kind._replace(type=type_)


KINDS: dict[Any, list[Kind]] = {
    sql.ARRAY: [
        Kind(sql.ARRAY(sql.String()), list[str], ["a", "b c"], ["a", "b c"]),
        Kind(sql.ARRAY(sql.Integer()), list[int], [1, 2], "[1, 2]"),
        Kind(sql.ARRAY(sql.Date()), list[date], [date(2026, 1, 31)], '["2026-01-31"]'),
        Kind(sql.ARRAY(sql.Integer(), dimensions=2), list[list[int]], [[1, 2]], "[[1, 2]]"),
    ],
    pg.ARRAY: [
        Kind(pg.ARRAY(pg.UUID()), list[uuid.UUID], [uuid.UUID(int=7)], f'["{uuid.UUID(int=7)}"]'),
        Kind(pg.ARRAY(sql.Text()), list[str | None], ["a"], ["a"]),
    ],
    sql.Integer: [SEVEN, SEVEN._replace(value=0)],
    sql.INTEGER: [of(SEVEN, sql.INTEGER())],
    sql.BigInteger: [Kind(sql.BigInteger(), int, 2**62)],
    sql.BIGINT: [of(SEVEN, sql.BIGINT())],
    sql.SmallInteger: [of(SEVEN, sql.SmallInteger())],
    sql.SMALLINT: [of(SEVEN, sql.SMALLINT())],
    sql.Boolean: [
        Kind(sql.Boolean(), bool, value=True, typed="y"),
        Kind(sql.Boolean(), bool | None, value=True, typed="True"),
    ],
    sql.BOOLEAN: [Kind(sql.BOOLEAN(), bool, value=True, typed="y")],
    sql.String: [WORD, Kind(sql.String(20), str, "first\nsecond", "first second")],
    sql.VARCHAR: [of(WORD, sql.VARCHAR(50))],
    sql.CHAR: [Kind(sql.CHAR(3), str, "abc")],
    sql.Unicode: [of(WORD, sql.Unicode())],
    sql.Text: [Kind(sql.Text(), str, "\nfirst\nsecond", "third")],
    sql.TEXT: [of(WORD, sql.TEXT())],
    sql.UnicodeText: [of(WORD, sql.UnicodeText())],
    pg.CITEXT: [],
    sql.LargeBinary: [BINARY],
    pg.BYTEA: [of(BINARY, pg.BYTEA())],
    sql.Date: [Kind(sql.Date(), date, date(2026, 1, 31))],
    sql.DATE: [Kind(sql.DATE(), date, date(2026, 1, 31))],
    sql.DateTime: [STAMP, ZONED_STAMP],
    sql.TIMESTAMP: [of(ZONED_STAMP, sql.TIMESTAMP(timezone=True))],
    pg.TIMESTAMP: [of(STAMP, pg.TIMESTAMP(precision=6))],
    sql.Time: [Kind(sql.Time(), time, time(10, 20, 30, 123456)), Kind(sql.Time(), time, time(0))],
    sql.TIME: [Kind(sql.TIME(), time, time(10, 20, 30))],
    pg.TIME: [
        Kind(pg.TIME(timezone=True), time, time(10, 20, 5, tzinfo=timezone(timedelta(hours=2))))
    ],
    sql.Interval: [LENGTH, LENGTH._replace(value=timedelta(0))],
    pg.INTERVAL: [of(LENGTH, pg.INTERVAL())],
    sql.Numeric: [PRICE, PRICE._replace(value=Decimal("NaN"), typed="12.3400")],
    sql.NUMERIC: [of(PRICE, sql.NUMERIC(12, 4))],
    sql.DECIMAL: [of(PRICE, sql.DECIMAL(12, 4))],
    sql.FLOAT: [of(PART, sql.FLOAT())],
    sql.Float: [PART, PART._replace(value=1e300)],
    sql.Double: [of(PART, sql.Double())],
    sql.DOUBLE_PRECISION: [of(PART, sql.DOUBLE_PRECISION())],
    sql.REAL: [Kind(sql.REAL(), float, 0.5)],
    sql.JSON: [JSON, JSON._replace(annotation=Any, value=[], typed="[]")],
    pg.JSON: [of(JSON, pg.JSON())],
    pg.JSONB: [of(JSON, pg.JSONB()), Kind(pg.JSONB(), list[int], [1], "[1]")],
    sql.Uuid: [CODE, Kind(sql.Uuid(as_uuid=False), str, str(uuid.UUID(int=7)))],
    sql.UUID: [of(CODE, sql.UUID())],
    sql.Enum: [STATE, Kind(sql.Enum("a", "b", name="column_letter"), str, "b")],
    pg.ENUM: [
        Kind(
            pg.ENUM(
                Colour, name="column_shade", values_callable=lambda all_: [m.value for m in all_]
            ),
            Colour,
            Colour.BLUE,
            "blue",
        )
    ],
    pg.DOMAIN: [Kind(pg.DOMAIN("column_short", sql.Text()), str, "abc")],
    pg.HSTORE: [],
    pg.BIT: [Kind(pg.BIT(3), Any, BitString("101"))],
    pg.CIDR: [Kind(pg.CIDR(), Any, "10.0.0.0/8")],
    pg.INET: [Kind(pg.INET(), Any, "10.0.0.1"), Kind(pg.INET(), str, "10.0.0.1/8")],
    pg.MACADDR: [Kind(pg.MACADDR(), str, "08:00:2b:01:02:03")],
    pg.MACADDR8: [Kind(pg.MACADDR8(), str, "08:00:2b:01:02:03:04:05")],
    pg.MONEY: [Kind(pg.MONEY(), str, "$12.34")],
    pg.OID: [Kind(pg.OID(), int, 7)],
    pg.REGCLASS: [Kind(pg.REGCLASS(), str, "pg_class")],
    pg.REGCONFIG: [Kind(pg.REGCONFIG(), str, "english")],
    pg.TSQUERY: [Kind(pg.TSQUERY(), str, "'a' & 'b'")],
    pg.TSVECTOR: [Kind(pg.TSVECTOR(), str, "'a':1 'b':2")],
    pg.INT4RANGE: [Kind(pg.INT4RANGE(), Range[int], Range(1, 5))],
    pg.INT8RANGE: [Kind(pg.INT8RANGE(), Range[int], Range(1, None))],
    pg.NUMRANGE: [Kind(pg.NUMRANGE(), Any, Range(Decimal("1.5"), None, bounds="()"))],
    pg.DATERANGE: [Kind(pg.DATERANGE(), Range[date], DAYS)],
    pg.TSRANGE: [Kind(pg.TSRANGE(), Range[datetime], HOURS)],
    pg.TSTZRANGE: [Kind(pg.TSTZRANGE(), Range[datetime], ZONED)],
    # psycopg2 takes and returns several ranges as text.
    pg.INT4MULTIRANGE: [Kind(pg.INT4MULTIRANGE(), Any, "{[1,3),[5,7)}")],
    pg.INT8MULTIRANGE: [Kind(pg.INT8MULTIRANGE(), Any, "{[1,3)}")],
    pg.NUMMULTIRANGE: [Kind(pg.NUMMULTIRANGE(), Any, "{[1.0,3.0)}")],
    pg.DATEMULTIRANGE: [Kind(pg.DATEMULTIRANGE(), Any, f"{{{DAYS}}}")],
    pg.TSMULTIRANGE: [Kind(pg.TSMULTIRANGE(), Any, f'{{["{HOURS.lower}","{HOURS.upper}")}}')],
    pg.TSTZMULTIRANGE: [Kind(pg.TSTZMULTIRANGE(), Any, f'{{["{ZONED.lower}","{ZONED.upper}")}}')],
    sql.TypeDecorator: [Kind(Cents(), Decimal, Decimal("12.5"))],
    sql.UserDefinedType: [Kind(Tree(), str, "16/B374D848")],
}

ABSTRACT = {
    sql.TypeEngine, sql._Binary, pg.AbstractRange, pg.AbstractSingleRange,  # type: ignore[attr-defined]
    pg.AbstractMultiRange, pg.NamedType,  # type: ignore[attr-defined]
}  # fmt: skip
NO_COLUMN_OF_POSTGRESQL = {
    sql.BINARY, sql.VARBINARY, sql.BLOB, sql.CLOB, sql.NCHAR, sql.NVARCHAR, sql.DATETIME,
    sql.DOUBLE, sql.NullType, pg.JSONPATH, sql.TupleType, sql.MatchType, sql.Variant,
}  # fmt: skip
REFUSED_AT_START = {sql.PickleType}


def types_of(*modules: Any) -> set[Any]:
    return {
        member
        for module in modules
        for member in vars(module).values()
        if inspect.isclass(member) and issubclass(member, sql.TypeEngine)
    }


def test_each_type_is_decided() -> None:
    decided = KINDS.keys() | ABSTRACT | NO_COLUMN_OF_POSTGRESQL | REFUSED_AT_START
    assert types_of(sql, pg) - decided == set()


NEEDS_EXTENSION = {
    pg.CITEXT: ("citext", of(WORD, pg.CITEXT())),
    pg.HSTORE: ("hstore", Kind(pg.HSTORE(), dict[str, str], {"a": "1"}, '{"a": "1"}')),
}
ALL = [
    pytest.param(kind, "", id=f"{type_.__name__}-{number}")
    for type_, kinds in KINDS.items()
    for number, kind in enumerate(kinds)
] + [
    pytest.param(kind, extension, id=type_.__name__)
    for type_, (extension, kind) in NEEDS_EXTENSION.items()
]


def model_of(kind: Kind, *, nullable: bool) -> Any:
    class Base(SQLModel, registry=registry()):
        model_config = ConfigDict(arbitrary_types_allowed=True)  # type: ignore[assignment]

    annotation = (
        kind.annotation | None if nullable and kind.annotation is not Any else kind.annotation
    )
    default: dict[str, Any] = {"default": None} if nullable else {}
    namespace = {
        "__module__": __name__,
        "__qualname__": "Sample",
        "__tablename__": "column_sample",
        "__annotations__": {"id": int | None, "value": annotation, "note": str},
        "id": Field(default=None, primary_key=True),
        "value": Field(sa_type=kind.type, nullable=nullable, **default),
        "note": Field(default="-"),
    }
    metaclass: Any = type(SQLModel)
    return metaclass("Sample", (Base,), namespace, table=True)


def view_of(model: Any, **more: Any) -> Any:
    is_json = isinstance(model.__table__.c.value.type, sql.JSON)
    is_comparable = not is_json or isinstance(model.__table__.c.value.type, pg.JSONB)
    is_filtered = is_comparable and not isinstance(
        model.__table__.c.value.type, (sql.LargeBinary, pg.HSTORE)
    )
    options = {
        "column_list": ["id", "value", "note"],
        "column_searchable_list": ["value"],
        "column_sortable_list": ["value"] if is_comparable else [],
        "column_filters": [
            IsSetFilter("value", parameter_name="is_set"),
            *([OperationColumnFilter("value")] if is_filtered else []),
        ],
    }
    metaclass: Any = type(ModelView)
    return metaclass("SampleAdmin", (ModelView,), options | more, model=model)


def said(answer: httpx.Response) -> list[str]:
    """The errors on a form's page."""
    return re.findall(r'(?:invalid-feedback"|role="alert")>(.*?)</div>', answer.text, re.DOTALL)


class Pages:
    """The admin's pages of one table."""

    def __init__(self, model: Any, session: Session, http: httpx.AsyncClient) -> None:
        self.model, self.session, self.http = model, session, http

    async def page(self, path: str, **parameters: str) -> str:
        answer = await self.http.get(f"/admin/sample/{path}", params=parameters)
        assert answer.status_code == 200, f"{path}: {answer.text[-300:]}"
        return answer.text

    async def send(self, path: str, **typed: Any) -> httpx.Response:
        form = BrowserForm(await self.page(path)).sent(**typed)
        return await self.http.post(f"/admin/sample/{path}", data=form)

    def stored(self) -> list[tuple[Any, ...]]:
        """The rows as PostgreSQL writes them."""
        columns = self.model.__table__.c
        return [
            tuple(row)
            for row in self.session.execute(
                select(columns.id, cast(columns.value, TextType), columns.note).order_by(columns.id)
            )
        ]


@pytest.fixture
async def pages_of(sync_db_session: Session, as_tester: AdminRequest) -> AsyncIterator[Any]:
    clients: list[httpx.AsyncClient] = []

    def make(kind: Any, extension: str = "", *, nullable: bool = False, **more: Any) -> Pages:
        """Pages of a model, or of one with such a column; with more options of the view."""
        if extension:
            sync_db_session.execute(text(f"CREATE EXTENSION {extension}"))
        model = model_of(kind, nullable=nullable) if isinstance(kind, Kind) else kind
        model.__table__.create(sync_db_session.connection())
        sync_db_session.commit()
        app = FastAPI()
        guard = [Middleware(AdminRequestGuard)]
        admin = ServiceAdmin(app, session_maker=admin_session_maker, middlewares=guard)
        admin.add_view(view_of(model, **more))
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")
        clients.append(http)
        return Pages(model, sync_db_session, http)

    yield make
    for http in clients:
        await http.aclose()


@pytest.mark.parametrize(("kind", "extension"), ALL)
@pytest.mark.parametrize("nullable", [False, True], ids=["not-null", "nullable"])
async def test_a_column(pages_of: Any, kind: Kind, extension: str, nullable: bool) -> None:
    pages: Pages = pages_of(kind, extension, nullable=nullable)
    session = pages.session
    session.add(pages.model(value=kind.value, note="made by code"))
    if nullable:
        session.add(pages.model(value=None, note="made by code"))
    session.commit()
    before = pages.stored()

    for id_, *_ in before:
        answer = await pages.send(f"edit/{id_}")
        assert answer.status_code == 302, said(answer)
    assert pages.stored() == before, "saved unchanged, and changed"

    answer = await pages.send("edit/1", note="changed")
    assert answer.status_code == 302, said(answer)
    assert pages.stored()[0] == (1, before[0][1], "changed")

    opened = BrowserForm(await pages.page("edit/1"))
    answer = await pages.send("edit/1", note="by somebody else")
    answer = await pages.http.post("/admin/sample/edit/1", data=opened.sent())
    assert answer.status_code == 302, said(answer)
    assert pages.stored()[0] == (1, before[0][1], "by somebody else")

    is_checkbox = kind.typed == "y" and nullable
    typed = str(kind.value) if kind.typed is None else kind.typed
    answer = await pages.send("create", value="True" if is_checkbox else typed)
    assert answer.status_code == 302, said(answer)
    if (not isinstance(kind.value, str) and kind.value == kind.value) or typed == kind.value:
        assert pages.stored()[-1][1] == before[0][1]

    answer = await pages.send("create", note="only a note")
    if nullable:
        assert answer.status_code == 302, said(answer)
        assert pages.stored()[-1][1] in (None, "null", "{}")  # a JSON column's None is JSON's
    elif not isinstance(kind.type, sql.Boolean | sql.Enum | sql.ARRAY):
        assert answer.status_code == 400
        assert any("required" in each for each in said(answer)), said(answer)

    await pages.page("details/1")
    await pages.page("list", search="a")
    await pages.page("list", is_set="yes")
    if not isinstance(kind.type, sql.JSON) or isinstance(kind.type, pg.JSONB):
        await pages.page("list", sortBy="value", sort="desc")
        for value in (str(kind.value), "\x00", "nonsense"):
            answer = await pages.http.get(
                "/admin/sample/list", params={"value": value, "value_op": "equals"}
            )
            assert answer.status_code in (200, 400)
    await pages.page("export/csv")
    await pages.page("export/json")


@pytest.mark.parametrize("type_", REFUSED_AT_START)
def test_a_type_that_no_field_can_hold_is_refused(type_: Any) -> None:
    view = view_of(model_of(Kind(type_(), Any, None), nullable=True))
    admin = ServiceAdmin(FastAPI(), session_maker=admin_session_maker)
    with pytest.raises(StartupError, match="SampleAdmin cannot hold value.*form_excluded_columns"):
        admin.add_view(view)


async def test_the_model_s_rules_hold_and_malformed_addresses_are_answered(pages_of: Any) -> None:
    rule = Annotated[int, PydanticField(ge=1, le=1000)]
    pages: Pages = pages_of(Kind(sql.Integer(), rule, 7), "", nullable=False)
    answer = await pages.send("create", value="5000")
    assert answer.status_code == 400
    assert "Input should be less than or equal to 1000" in said(answer)
    assert (await pages.send("create", value="1000")).status_code == 302
    for path in ("edit/x", "details/x", "details/99999999999999999999"):
        assert (await pages.http.get(f"/admin/sample/{path}")).status_code == 404, path
    for path in ("edit/%00", "list?search=%00"):
        assert (await pages.http.get(f"/admin/sample/{path}")).status_code == 400, path


async def test_a_rule_of_the_whole_model_holds_in_a_form_without_a_column(pages_of: Any) -> None:
    class Base(SQLModel, registry=registry()):
        """Keeps the table out of the service's."""

    class Sample(Base, table=True):
        __tablename__ = "column_sample"
        id: int | None = Field(default=None, primary_key=True)
        value: int
        note: str
        author: str

        @model_validator(mode="after")
        def _note_has_its_value(self) -> "Sample":
            if str(self.value) not in self.note:
                raise ValueError("The note has to name the value.")
            return self

    async def sign(_view: Any, data: Any, _row: Any, is_created: bool, _request: Any) -> None:
        if is_created:
            data["author"] = "ada"

    pages: Pages = pages_of(Sample, form_excluded_columns=["author"], on_model_change=sign)

    answer = await pages.send("create", value="7", note="six")
    assert answer.status_code == 400
    assert any("The note has to name the value." in each for each in said(answer))
    assert (await pages.send("create", value="7", note="7 it is")).status_code == 302
    answer = await pages.send("edit/1", value="8")
    assert answer.status_code == 400
    assert any("The note has to name the value." in each for each in said(answer))
    assert (await pages.send("edit/1", value="8", note="8 it is")).status_code == 302
    assert pages.stored() == [(1, "8", "8 it is")]


@pytest.mark.parametrize("type_", [sql.Integer(), sql.Date(), sql.Uuid(), sql.Boolean()])
async def test_an_operation_that_a_filter_does_not_offer_is_refused(
    pages_of: Any, type_: Any
) -> None:
    pages: Pages = pages_of(Kind(type_, Any, None), nullable=True)
    value = "2026-01-01" if isinstance(type_, sql.Date) else "1"
    for operation in ("contains", "starts_with", "ends_with", "greater_than", "nonsense"):
        asked = {"value": value, "value_op": operation}
        answer = await pages.http.get("/admin/sample/list", params=asked)
        assert answer.status_code in (200, 400), operation
    assert answer.status_code == 400
    assert "The filter value takes equals" in answer.text


async def test_a_text_with_a_rule_can_be_emptied_where_it_may_be_null(pages_of: Any) -> None:
    rule = Annotated[str, PydanticField(min_length=1, pattern="^[^@]+@[^@]+$")]
    pages: Pages = pages_of(Kind(sql.String(), rule, "a@b"), "", nullable=True)
    assert (await pages.send("create", value="a@b")).status_code == 302
    answer = await pages.send("edit/1", value="")
    assert answer.status_code == 302, said(answer)
    assert pages.stored() == [(1, None, "-")]


async def test_a_text_that_only_the_table_lets_be_null_can_be_emptied(pages_of: Any) -> None:
    class Base(SQLModel, registry=registry()):
        """Keeps the table out of the service's."""

    class Sample(Base, table=True):
        id: int | None = Field(default=None, primary_key=True)
        value: str = Field(sa_column=Column(sql.Text()))
        note: str = "-"

    pages: Pages = pages_of(Sample)
    assert (await pages.send("create", value="a")).status_code == 302
    answer = await pages.send("edit/1", value="")
    assert answer.status_code == 302, said(answer)
    assert pages.stored() == [(1, None, "-")]


@pytest.mark.parametrize(
    ("type_", "typed", "message"),
    [
        (sql.Interval(), "99999999999 days", "Longer than a duration can be."),
        (sql.Interval(), f"{'9' * 400} days", "Longer than a duration can be."),
        (pg.JSONB(), "[" * 100_000, "Not valid JSON: recursion limit exceeded"),
        (sql.JSON(), '["\\ud800"]', "Not valid JSON"),
        (sql.JSON(), "[NaN]", "Not valid JSON"),
    ],
)
async def test_what_no_value_can_be_is_refused_at_the_field(
    pages_of: Any, type_: Any, typed: str, message: str
) -> None:
    pages: Pages = pages_of(Kind(type_, Any, None), "", nullable=True)
    answer = await pages.send("create", value=typed)
    assert answer.status_code == 400
    assert any(each.startswith(message) for each in said(answer))


async def test_a_row_that_is_saved_as_new_has_what_was_not_changed_too(
    pages_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelView, "save_as", True)
    pages: Pages = pages_of(Kind(sql.Integer(), int, 7), "", nullable=True)
    assert (await pages.send("create", value="7", note="one")).status_code == 302
    answer = await pages.send("edit/1", note="another", save="Save as new")
    assert answer.status_code == 302, said(answer)
    assert pages.stored() == [(1, "7", "one"), (2, "7", "another")]
