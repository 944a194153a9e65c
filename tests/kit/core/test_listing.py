"""Lists in pages: every row once and in order, whatever it is sorted by and whoever asks."""

import operator
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from types import new_class
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from fastapi import Depends, FastAPI, Query
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer
from pydantic import BaseModel, Field
from sqlalchemy import (
    ARRAY,
    JSON,
    REAL,
    BigInteger,
    DateTime,
    Integer,
    Numeric,
    SmallInteger,
    Text,
    TypeDecorator,
    event,
    text,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import registry, selectinload
from sqlmodel import Field as Column
from sqlmodel import Relationship, SQLModel, col, delete, insert, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.config import settings
from kit.errors import setup_errors
from kit.http import middleware_stack
from kit.listing import ListQuery, Page, read_page, refuse_repeated


class Colour(StrEnum):
    """In another order than the alphabet's, which is the order of its columns of text."""

    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Cents(TypeDecorator[Decimal]):
    """Money as a whole number of cents."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: object) -> int | None:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: int | None, dialect: object) -> Decimal | None:
        return None if value is None else Decimal(value) / 100


class Table(SQLModel, registry=registry()):
    """Tables of these tests alone."""


class Shelf(Table, table=True):
    __tablename__ = "listing_shelf"

    id: int | None = Column(default=None, primary_key=True)
    name: str
    things: list["Thing"] = Relationship(back_populates="shelf")


class Thing(Table, table=True):
    __tablename__ = "listing_thing"

    id: int | None = Column(default=None, primary_key=True)
    shelf_id: int | None = Column(default=None, foreign_key="listing_shelf.id")
    shelf: Shelf | None = Relationship(back_populates="things")
    small: int = Column(sa_type=SmallInteger)
    large: int | None = Column(sa_type=BigInteger)
    real: float = Column(sa_type=REAL)
    double: float | None
    amount: Decimal = Column(max_digits=12, decimal_places=4)
    exact: Decimal | None = Column(sa_type=Numeric)
    cents: Decimal | None = Column(sa_type=Cents)
    is_open: bool
    may_be: bool | None
    name: str = Column(max_length=20)
    note: str | None = Column(sa_type=Text(collation="C"))
    colour: Colour = Column(sa_type=EnumType(Colour, name="listing_colour"))
    shade: Colour | None = Column(sa_type=Text)
    day: date
    due: date | None
    at: datetime = Column(sa_type=DateTime(timezone=True))
    naive: datetime | None = Column(sa_type=DateTime)
    hour: time | None
    lasts: timedelta
    ref: UUID
    tags: list[str] = Column(sa_type=ARRAY(Text), default_factory=list)
    details: dict[str, Any] = Column(sa_type=JSON, default_factory=dict)
    content: bytes = b""


VALUES: dict[str, list[Any]] = {
    "shelf_id": [None],
    "small": [-(2**15), 0, 7, 2**15 - 1],
    "large": [None, -(2**63), 0, 2**63 - 1],
    "real": [0.1, -0.5, 3e30],
    "double": [None, 0.1, 0.30000000000000004, -1e300, float("inf"), float("nan")],
    "amount": [Decimal("0.1"), Decimal("0.1001"), Decimal("-99999999.9999")],
    "exact": [None, Decimal("1." + "0" * 60 + "1"), Decimal(1), Decimal("1E+40")],
    "cents": [None, Decimal("0.07"), Decimal("9.99")],
    "is_open": [False, True],
    "may_be": [None, True, False],
    "name": ["a", "B", "ä", "a b", "", "%", "😀", "\\", "'"],
    "note": [None, "a", "B", "ä", "_"],
    "colour": [*Colour],
    "shade": [None, *Colour],
    "day": [date.min, date(2026, 2, 28), date.max],
    "due": [None, date(2026, 2, 28), date(2026, 3, 1)],
    "at": [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)],
    "naive": [None, datetime(2026, 1, 1), datetime(1, 1, 1, 0, 0, 0, 999999)],  # noqa: DTZ001
    "hour": [None, time(0), time(23, 59, 59, 999999)],
    "lasts": [timedelta(0), timedelta(days=-1, microseconds=1), timedelta(400)],
    "ref": [UUID(int=0), UUID(int=2**128 - 1)],
}
ROWS = st.fixed_dictionaries({name: st.sampled_from(each) for name, each in VALUES.items()})
SORTS = ("id", *VALUES)
Sort: Any = Literal[(*SORTS, *(f"-{name}" for name in SORTS))]


class ThingQuery(ListQuery, model=Thing):
    sort: Sort = "id"
    small: int | None = None
    small__le: int | None = None
    large__gt: int | None = None
    name__contains: str | None = None
    colour: list[Colour] = Field([], validate_default=True)
    at__ge: datetime | None = None
    naive__lt: datetime | None = None
    day: list[date] = []
    amount__ge: Decimal | None = None
    double__le: float | None = None
    on_shelf: str | None = Field(None, exclude=True)


class ShelfQuery(ListQuery, model=Shelf):
    """Every shelf, in the order of the primary key."""


class Item(BaseModel):
    id: int


@pytest.fixture
async def session(connection: AsyncConnection) -> AsyncIterator[AsyncSession]:
    """A session of a transaction that has the tables, and is rolled back."""
    await connection.run_sync(Table.metadata.create_all)
    async with AsyncSession(connection) as session:
        yield session


@pytest.fixture
async def http(session: AsyncSession) -> AsyncIterator[httpx.AsyncClient]:
    """An API with both lists."""
    dependencies = [Depends(refuse_repeated)]  # as all routes below /api have
    application = FastAPI(middleware=middleware_stack(), dependencies=dependencies)
    setup_errors(application)

    @application.get("/things")
    async def list_things(query: Annotated[ThingQuery, Query()]) -> Page[Item]:
        statement = select(Thing)
        if query.on_shelf:
            statement = statement.join(Shelf).where(Shelf.name == query.on_shelf)
        return await read_page(session, statement, query, Item)

    @application.get("/shelves")
    async def list_shelves(query: Annotated[ShelfQuery, Query()]) -> Page[Item]:
        return await read_page(session, select(Shelf), query, Item)

    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def thing(**values: Any) -> dict[str, Any]:
    """A row; of a value that is not given any of its column's."""
    some = {name: choices[0] for name, choices in VALUES.items()}
    return Thing(**some | values).model_dump(exclude={"id"} - values.keys())


async def pages_of(session: AsyncSession, **query: Any) -> AsyncIterator[list[int]]:
    """The ids on each page of the list of things."""
    after: str | None = None
    for _ in range(50):
        page = await read_page(session, select(Thing), ThingQuery(after=after, **query), Item)
        yield [item.id for item in page.items]
        if (after := page.next) is None:
            return
    pytest.fail("the list does not end")


async def ids_in_order(session: AsyncSession, sort: str) -> list[int]:
    """The ids of all things as PostgreSQL sorts them."""
    direction = "DESC" if sort.startswith("-") else "ASC"
    order = f"{sort.removeprefix('-')} {direction} NULLS LAST, id {direction}"
    return list((await session.scalars(select(Thing.id).order_by(text(order)))).all())


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(ROWS, min_size=1, max_size=9),
    st.sampled_from(get_args(Sort)),
    st.integers(1, 4),
)
async def test_each_row_is_on_one_page_in_the_database_s_order(
    session: AsyncSession, rows: list[dict[str, Any]], sort: str, limit: int
) -> None:
    async with session.begin_nested() as savepoint:
        await session.execute(insert(Thing), [thing(**row) for row in rows])
        pages = [page async for page in pages_of(session, sort=sort, limit=limit)]
        assert [each for page in pages for each in page] == await ids_in_order(session, sort)
        assert all(len(page) == limit for page in pages[:-1])
        assert pages[-1]
        await savepoint.rollback()


async def test_every_type_of_column_keeps_its_order(session: AsyncSession) -> None:
    """Three rows of each value, in pages that end within them and between."""
    for name, values in VALUES.items():
        rows = [thing(**{name: value}) for _ in range(3) for value in values]
        await session.execute(insert(Thing), rows)
        for sort in (name, f"-{name}"):
            pages = [page async for page in pages_of(session, sort=sort, limit=2)]
            expected = await ids_in_order(session, sort)
            assert [each for page in pages for each in page] == expected, sort
        await session.exec(delete(Thing))


@pytest.mark.parametrize("sort", ["id", "-id", "name", "-name", "due", "-due"])
async def test_rows_that_come_and_go_hide_and_repeat_no_others(
    session: AsyncSession, sort: str
) -> None:
    days = [None, *(date(2026, 1, day) for day in range(1, 6))]
    rows = [thing(name=name, due=day) for name in "ace" for day in days]
    await session.execute(insert(Thing), rows)
    stay = set(await ids_in_order(session, sort))
    seen: list[int] = []
    async for page in pages_of(session, sort=sort, limit=4):
        seen += page
        stay -= {page[-1]}
        await session.exec(delete(Thing).where(col(Thing.id) == page[-1]))
        await session.execute(insert(Thing), [thing(name=name, due=days[2]) for name in "bd"])
    assert len(seen) == len(set(seen))
    assert stay <= set(seen)


class TestCursor:
    @pytest.fixture(autouse=True)
    async def rows(self, session: AsyncSession) -> None:
        await session.execute(insert(Shelf), [{"name": name} for name in "abc"])
        await session.execute(insert(Thing), [thing(due=None), thing(), thing()])

    async def cursor(self, http: httpx.AsyncClient, path: str) -> str:
        page = (await http.get(path)).json()
        assert page["next"] == quote(page["next"], safe="")
        return str(page["next"])

    async def assert_refused(self, http: httpx.AsyncClient, path: str, after: str) -> None:
        answer = await http.get(f"{path}&after={after}")
        assert answer.status_code == 422
        assert [each["pointer"] for each in answer.json()["errors"]] == ["/after"]

    @pytest.mark.parametrize(
        "after",
        [
            *("", "1", "null", "bnVsbA", "'--", "%00", "%ed%a0%80", "%F0%9F%98%80", "."),
            *("9" * 20_000, "WzFd.AAAA", "WzFd." + "A" * 27, ".eJyLNgQAAJkAZw." + "A" * 27),
        ],
    )
    async def test_made_up(self, http: httpx.AsyncClient, after: str) -> None:
        await self.assert_refused(http, "/things?limit=1", after)

    async def test_changed(self, http: httpx.AsyncClient) -> None:
        cursor = await self.cursor(http, "/things?sort=name&limit=1")
        for number, letter in enumerate(cursor[:-1]):  # whose last bits count for nothing
            changed = cursor[:number] + ("A" if letter != "A" else "B") + cursor[number + 1 :]
            await self.assert_refused(http, "/things?sort=name", changed)
            await self.assert_refused(http, "/things?sort=name", cursor[:number])

    async def test_of_another_order_or_list(self, http: httpx.AsyncClient) -> None:
        cursor = await self.cursor(http, "/things?sort=small&limit=1")
        for sort in ("-small", "id", "large"):
            await self.assert_refused(http, f"/things?sort={sort}", cursor)
        await self.assert_refused(
            http, "/shelves?limit=1", await self.cursor(http, "/things?limit=1")
        )

    @pytest.mark.parametrize("place", [None, [], [1], ["x", 1], [1, 2, 3], {"id": 1}, [[1], 1]])
    async def test_of_a_release_with_other_columns(
        self, http: httpx.AsyncClient, place: object
    ) -> None:
        cursors = URLSafeSerializer(settings.secret_key, salt="listing_thing small")
        assert cursors.loads(await self.cursor(http, "/things?sort=small&limit=1"))
        await self.assert_refused(http, "/things?sort=small", str(cursors.dumps(place)))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("small=7", "b"),
        ("small=99999999999999999999", ""),
        ("small__le=7", "ab"),
        ("small__le=99999", "abc"),
        ("small__le=-99999", ""),
        ("large__gt=0", "c"),
        (f"large__gt={-(10**3000)}", "bc"),
        ("name__contains=A", "a"),
        ("name__contains=%25", "b"),
        ("name__contains=_", "c"),
        ("name__contains=\\", "a"),
        ("colour=red", "a"),
        ("colour=green&colour=blue", "bc"),
        ("at__ge=2026-01-01T01:00:00%2B01:00", "abc"),
        ("at__ge=2026-01-01T00:00:00-00:01", ""),
        ("day=0001-01-01&day=2026-02-28", "abc"),
        ("naive__lt=2026-01-02T00:00:00", "b"),
        ("small__le=7&colour=red", "a"),
        ("on_shelf=low", "b"),
    ],
)
async def test_filters(
    http: httpx.AsyncClient, session: AsyncSession, query: str, found: str
) -> None:
    await session.execute(insert(Shelf), [{"id": 7, "name": "low"}])
    one, two, three = Colour
    rows = {
        "a": thing(small=-5, large=None, name="A\\", colour=one),
        "b": thing(small=7, large=0, name="%b", colour=two, naive=datetime(2026, 1, 1), shelf_id=7),  # noqa: DTZ001
        "c": thing(small=8, large=9, name="c_", colour=three),
    }
    ids = {}
    for name, row in rows.items():
        ids[(await session.scalars(insert(Thing).values(row).returning(col(Thing.id)))).one()] = (
            name
        )
    answer = await http.get(f"/things?{query}")
    assert answer.status_code == 200, answer.text
    assert "".join(ids[item["id"]] for item in answer.json()["items"]) == found


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=201", "/limit"),
        ("sort=content", "/sort"),
        ("sort=id;DROP TABLE listing_thing", "/sort"),
        ("smal=1", "/smal"),
        ("details=1", "/details"),
        ("small=x", "/small"),
        ("name__contains=%00", "/name__contains"),
        ("at__ge=2026-01-01T00:00:00", "/at__ge"),
        ("naive__lt=2026-01-01T00:00:00Z", "/naive__lt"),
        ("at__ge=0.5", "/at__ge"),
        ("day=2026-01-01&day=0", "/day"),
        ("amount__ge=NaN", "/amount__ge"),
        ("small=1&small=2", "/small"),
        ("limit=1&limit=1", "/limit"),
        ("sort=id&sort=-id&day=2026-01-01&day=2026-01-02", "/sort"),
        ("double__le=nan", "/double__le"),
        ("double__le=1e999", "/double__le"),
    ],
)
async def test_what_does_not_fit_is_refused(
    http: httpx.AsyncClient, query: str, pointer: str
) -> None:
    answer = await http.get(f"/things?{query}")
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    "query", ["at__ge=0001-01-01T00:00:00%2B14:00", "amount__ge=1e999999", "amount__ge=1e-99999"]
)
async def test_what_no_column_could_hold_is_no_failure(http: httpx.AsyncClient, query: str) -> None:
    assert (await http.get(f"/things?{query}")).status_code in (200, 422)


@pytest.mark.parametrize(
    ("name", "type_", "value", "reason"),
    [
        (
            "nme",
            str,
            None,
            "ThingQuery.nme: the table listing_thing has no column nme; .*exclude=True",
        ),
        ("nme__ge", str, None, "no column nme"),
        ("name__near", str, None, "no column name__near"),
        ("shelf", str, None, "no column shelf"),
        ("details", str, None, r"listing_thing.details, JSON\(\), can be neither"),
        ("content", bytes, None, "can be neither"),
        ("tags", str, None, "can be neither"),
        ("small__contains", str, None, "small is no text"),
        ("colour__contains", str, None, "colour is no text"),
        ("is_open__gt", bool, None, "is_open is true or false"),
        ("sort", str, "id", r"`Literal\[\"id\", \"-id\"\]`"),
        ("sort", Literal["id", "-nme"], "id", "no column nme"),
        ("sort", Literal["tags"], "tags", "can be neither"),
        ("limit", int, 20, "bounds"),
    ],
)
def test_a_field_that_cannot_be_is_refused_at_import(
    name: str, type_: Any, value: Any, reason: str
) -> None:
    body = {"__module__": "app.api.things", "__annotations__": {name: type_ | None}, name: value}
    if name in ("sort", "limit"):
        body["__annotations__"] = {name: type_}
    with pytest.raises(TypeError, match=f"^app.api.things.*{reason}"):
        new_class("ThingQuery", (ListQuery,), {"model": Thing}, lambda space: space.update(body))


async def test_a_statement_that_cannot_be_paged_is_refused(session: AsyncSession) -> None:
    statements: list[Any] = [
        select(Shelf),
        select(Thing.id),
        select(Thing).order_by(Thing.name),
        select(Thing).limit(5),
        select(Thing).offset(5),
    ]
    for statement in statements:
        with pytest.raises(ValueError, match="pass `select\\(Thing\\)`|leave out order_by"):
            await read_page(session, statement, ThingQuery(), Item)


async def test_a_query_of_no_model_is_refused(session: AsyncSession) -> None:
    with pytest.raises(TypeError, match="ListQuery, model="):
        await read_page(session, select(Thing), ListQuery(), Item)


@pytest.mark.parametrize(
    ("sort", "columns", "statements"),
    [
        ("day", "day, id", [1, 1, 1]),
        ("-day", "day, id", [1, 1, 1]),
        ("id", "", [1, 1, 1]),
        ("due", "due, id", [1, 2, 1]),
        ("-due", "due, id", [1, 2, 1]),
    ],
)
async def test_a_page_is_one_statement_that_reads_a_range_of_the_index(
    session: AsyncSession, sort: str, columns: str, statements: list[int]
) -> None:
    days = [date(2026, 1, day) for day in range(1, 4)]
    rows = [thing(day=day, due=day) for day in days] + [thing(due=None)] * 3
    await session.execute(insert(Thing), rows)
    connection = await session.connection()
    if columns:
        await connection.exec_driver_sql(f"CREATE INDEX by_order ON listing_thing ({columns})")
    await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    await connection.exec_driver_sql("SET LOCAL enable_sort = off")
    sent: list[tuple[str, Any]] = []

    def note(_1: object, _2: object, statement: str, values: Any, _3: object, _4: object) -> None:
        sent.append((statement, values))

    raw = connection.sync_connection
    event.listen(raw, "before_cursor_execute", note)
    counts: list[int] = []
    async for _ in pages_of(session, sort=sort, limit=2):
        counts.append(len(sent) - sum(counts))
    event.remove(raw, "before_cursor_execute", note)
    assert counts == statements
    for statement, values in sent[1:]:
        plan = await connection.exec_driver_sql(f"EXPLAIN {statement}", tuple(values))
        told = "\n".join(plan.scalars())
        assert "Index Cond" in told
        assert not {"Filter", "Sort", "Bitmap"} & set(told.replace(":", " ").split()), told


async def test_thousands_of_values_are_one_parameter(session: AsyncSession) -> None:
    class Numbered(ListQuery, model=Thing):
        id: list[int] = []

    key = (await session.scalars(insert(Thing).values(thing()).returning(col(Thing.id)))).one()
    query = Numbered(id=[*range(2**40, 2**40 + 40_000), key])
    assert (await read_page(session, select(Thing), query, Item)).items == [Item(id=key)]


async def test_an_item_may_be_the_row_itself(session: AsyncSession) -> None:
    session.add(Shelf(name="a"))
    await session.flush()
    page = await read_page(session, select(Shelf), ShelfQuery(), Shelf)
    assert [shelf.name for shelf in page.items] == ["a"]


async def test_an_item_may_hold_related_rows(session: AsyncSession) -> None:
    class WithThings(Item):
        things: list[Item]

    session.add(Shelf(name="a", things=[Thing(**thing()), Thing(**thing())]))
    await session.flush()
    session.expunge_all()
    statement = select(Shelf).options(selectinload(Shelf.things))  # type: ignore[arg-type]
    page = await read_page(session, statement, ShelfQuery(), WithThings)
    assert [len(item.things) for item in page.items] == [2]


async def test_a_key_of_several_columns(session: AsyncSession) -> None:
    class Seat(Table, table=True):
        __tablename__ = "listing_seat"

        hall: UUID = Column(primary_key=True)
        row: str = Column(primary_key=True)
        price: int

    class SeatQuery(ListQuery, model=Seat):
        sort: Literal["row", "-row", "price", "-hall"] = "price"

    class SeatItem(BaseModel):
        hall: UUID
        row: str

    await session.run_sync(lambda sync: Table.metadata.create_all(sync.connection()))
    halls = [UUID(int=1), UUID(int=2)]
    seats = [Seat(hall=hall, row=row, price=5) for hall in halls for row in "abc"]
    session.add_all(seats)
    await session.flush()
    for sort in get_args(SeatQuery.model_fields["sort"].annotation):
        found, after = [], None
        for _ in range(10):
            query = SeatQuery(sort=sort, limit=2, after=after)
            page = await read_page(session, select(Seat), query, SeatItem)
            found += [(item.hall, item.row) for item in page.items]
            if (after := page.next) is None:
                break
        key = operator.itemgetter(1, 0) if "row" in sort else operator.itemgetter(0, 1)
        expected = sorted(((seat.hall, seat.row) for seat in seats), key=key)
        assert found == (expected[::-1] if sort.startswith("-") else expected)


async def test_each_route_of_the_api_refuses_what_is_sent_twice(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/example/notes?limit=1&limit=2")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/limit"
