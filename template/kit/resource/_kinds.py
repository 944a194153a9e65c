"""The kinds of a resource's fields, and what its files say of each, as Python code."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple
from uuid import UUID

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

INTEGER = (-(2**31), 2**31 - 1)
BIGINT = (-(2**63), 2**63 - 1)


class Filter(NamedTuple):
    """A filter of a list."""

    suffix: str
    annotation: str
    sent: str
    """Code of what finds the row of the second sample alone."""


class Kind:
    """A kind of field; a subclass is made with the arguments in its parentheses.

    Raises:
        ValueError: when they are no arguments of it, with the reason.
    """

    usage: ClassVar[str]
    about: ClassVar[str]
    annotation: str
    sa_type: str = ""
    """The column's type, where the annotation does not say it."""
    default_type: ClassVar[Any] = None
    """The type of a default; None where it can have none."""
    empty: ClassVar[str] = ""
    """The factory of the default of a field that has no other."""
    is_ordered = can_be_unique = False
    samples: tuple[Any, Any]
    """Two values, the smaller one first where they have an order."""
    wrong: tuple[Any, ...] = ("perhaps",)
    """Values that the field refuses, as JSON."""
    unique: str = ""
    """Code of a value that is another one for each `number`."""
    varied: str = "None"
    """Code of a value that differs from that of the row before."""
    spelt_otherwise: tuple[str, str] | None = None
    """A value as a caller may send it, and as PostgreSQL returns it."""
    rules: Mapping[str, float] = MappingProxyType({})
    """What limits the values, as arguments of `Field`."""

    def __init__(self, *arguments: str) -> None:
        if arguments and "(" not in self.usage:
            raise ValueError("takes nothing in parentheses")

    @property
    def filters(self) -> list[Filter]:
        """The filters of a list by it."""
        if not self.is_ordered:
            return []
        first, second = map(self.sent, self.samples)
        return [Filter("__ge", self.annotation, second), Filter("__le", self.annotation, first)]

    def parse(self, text: str) -> Any:
        """Convert a default.

        Raises:
            ValueError: when it is no value of the field, with the reason.
        """
        if self.default_type is None:
            raise ValueError("it takes no default")
        rules: dict[str, Any] = dict(self.rules)
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[self.default_type, Field(**rules)])  # type: ignore[arg-type]
        try:
            return adapter.validate_python(text)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from None

    def made_up(self, what: str, of: str, *, is_unique: bool) -> str:  # noqa: ARG002 (for texts)
        """Code of the value of the made-up row of a `number`.

        Args:
            what: the words for the value, for example `Due date`.
            of: name of the resource.
            is_unique: whether no other row may have it.
        """
        return self.unique if is_unique else self.varied

    def code(self, value: Any) -> str:
        """Code of a value."""
        if isinstance(value, date | time | timedelta):
            return repr(value).replace("datetime.timezone.utc", "UTC").replace("datetime.", "")
        return repr(value)

    def sent(self, value: Any) -> str:
        """Code of what a caller sends for a value, as JSON."""
        return repr(to_jsonable_python(value))

    def typed(self, value: Any) -> str:
        """Code of what a person types into the form of the admin for a value."""
        return repr(str(value))


class Str(Kind):
    usage = "str(40)"
    about = "short text of 1 to 40 characters (without a number: 200)"
    annotation = "str"
    default_type = str
    can_be_unique = is_ordered = True
    least = 1
    longest = 200

    def __init__(self, longest: str = "") -> None:
        self.longest = _whole(longest) if longest else self.longest
        if not self.least <= self.longest <= 10_000_000:  # noqa: PLR2004
            raise ValueError("its length is a number from 1 on")
        self.rules = {**({"min_length": 1} if self.least else {}), "max_length": self.longest}
        self.wrong = (*([""] * self.least), Code(f"'x' * {self.longest + 1:_}"))
        self.samples = ("Alpha", "Beta") if self.longest > len("Alpha") else ("A", "B")

    def allow_empty(self) -> None:
        """Accept a text without characters, as a model that does not refuse it."""
        self.least, self.rules = 0, {"max_length": self.longest}
        self.wrong = tuple(each for each in self.wrong if each != "")

    def made_up(self, what: str, of: str, *, is_unique: bool) -> str:  # noqa: ARG002
        """As `Customer 7`, if there is room for it."""
        for text in (f"{what} ", "No. ", ""):
            if len(f"{text}12345") <= self.longest or (is_unique and not text):
                return f"f{text + '{number}'!r}"
        return "'ABC'[number % 3]"

    @property
    def filters(self) -> list[Filter]:
        return [Filter("__contains", "str", repr(self.samples[1][-3:].lower()))]


class TextKind(Str):
    usage = "text(10000)"
    about = "long text of at most 10,000 characters"
    sa_type = "Text"
    is_ordered = can_be_unique = False
    least = 0
    longest = 10_000

    def made_up(self, what: str, of: str, *, is_unique: bool) -> str:
        """As `Notes of invoice 7.`, if there is room for it."""
        text = f"{what} of {of.replace('_', ' ')} {{number}}."
        if len(text) > self.longest:
            return super().made_up(what, of, is_unique=is_unique)
        return f"f{text!r}"


class Address(Str):
    is_ordered = False
    least = 0
    made: ClassVar[str]
    pattern: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        first, _ = self.samples = type(self).samples
        start = first.partition("ada")[0] or "a@"
        self.wrong = ("nowhere", Code(f"{start!r} + 'x' * {self.longest:_}"))

    def parse(self, text: str) -> Any:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"its default is no {self.about}")
        return super().parse(text)

    def made_up(self, what: str, of: str, *, is_unique: bool) -> str:  # noqa: ARG002
        """As `customer7@example.com`."""
        return f"f{self.made.format(of[:40])!r}"

    @property
    def filters(self) -> list[Filter]:
        return [Filter("", "str", repr(self.samples[1]))]


class Email(Address):
    usage = "email"
    about = "address of mail"
    annotation = "EmailAddress"
    pattern = r"^[^@\s]+@[^@\s]+$"
    longest = 254
    samples = ("ada@example.com", "bob@example.com")
    made = "{}{{number}}@example.com"


class Url(Address):
    usage = "url"
    about = "address that begins with https:// or http://"
    annotation = "WebAddress"
    pattern = r"^https?://[^\s]+$"
    longest = 2000
    samples = ("https://example.com/ada", "https://example.com/bob")
    made = "https://example.com/{}/{{number}}"


class Int(Kind):
    usage = "int(1,1000)"
    about = "whole number from 1 to 1000 (without numbers: of 32 bits)"
    annotation = "int"
    default_type = int
    can_be_unique = is_ordered = True
    bounds = INTEGER

    def __init__(self, *bounds: str) -> None:
        self.samples, self.unique, self.varied = (1, 2), "number", "number * 7 % 100"
        self._limit(*self.bounds)
        if not bounds:
            return
        least, largest = map(_whole, _two(bounds, "the least and the largest number"))
        if not self.bounds[0] <= least < largest <= self.bounds[1]:
            raise ValueError("the first number is smaller than the second, and both fit the column")
        self._limit(least, largest)
        self.samples = (least, least + 1)
        self.unique = f"{least} + number"
        count = largest - least + 1
        step = "number * 7" if count % 7 else "number"
        self.varied = f"{f'{least} + ' if least else ''}{step} % {count:_}"
        self.can_be_unique = largest - least > 1000  # noqa: PLR2004 (a run of tests takes some)

    def _limit(self, least: int, largest: int) -> None:
        self.rules = {"ge": least, "le": largest}
        below = f"{_number(least)} - 1" if least == self.bounds[0] else f"{least - 1}"
        self.wrong = (Code(below), Code(_number(largest + 1)), "few")


class BigInt(Int):
    usage = "bigint(0,9000000000)"
    about = "whole number of 64 bits"
    sa_type = "BigInteger"
    bounds = BIGINT


class Float(Kind):
    usage = "float(0,1)"
    about = "number with a fraction that need not be exact, such as a measurement"
    annotation = "float"
    default_type = float

    def __init__(self, *bounds: str) -> None:
        self.samples, self.wrong = (1.5, 2.5), ("much",)
        self.varied = "number * 7 % 100 / 10"
        if bounds:
            try:
                first, second = map(float, _two(bounds, "the least and the largest number"))
            except ValueError:
                raise ValueError("it takes the least and the largest number") from None
            if not first < second:
                raise ValueError("the first number is smaller than the second")
            self.rules = {"ge": first, "le": second}
            self.samples = (first, (first + second) / 2)
            start, span = (first, second - first) if isfinite(second - first) else (0, second)
            part = f"number % 10 / 10{f' * {span!r}' if span != 1 else ''}"
            self.varied = f"{start!r} + {part}" if start else part


class DecimalKind(Kind):
    usage = "decimal(10,2)"
    about = "exact number of 10 digits, 2 of them behind the point, such as an amount of money"
    annotation = "Decimal"
    default_type = Decimal
    is_ordered = True

    def __init__(self, *digits: str) -> None:
        count, places = map(_whole, _two(digits, "all digits, and those behind the point"))
        if not 0 <= places <= count <= 28 or not count:  # noqa: PLR2004 (Python's own precision)
            raise ValueError("it has 1 to 28 digits, and no more behind the point")
        smallest = Decimal(1).scaleb(-places)
        one = Decimal(1) if count > places else smallest
        self.samples = (one.quantize(smallest), (2 * one).quantize(smallest))
        kept = str(Decimal("0.5" if places else 5).quantize(smallest))
        self.spelt_otherwise = ("0.5" if places > 1 else f"{kept}0" if places else "5.0", kept)
        seen = min(count, places + 4)
        step = 1995 if seen > 4 else 7  # noqa: PLR2004 (19.95)
        self.varied = f"Decimal(number * {step} % {10**seen:_}).scaleb(-{places})"
        # A digit too many before the point, and behind it.
        self.wrong = ("1" + "0" * (count - places), "0." + "0" * places + "1", "much")
        self.rules = {"max_digits": count, "decimal_places": places}


class Bool(Kind):
    usage = "bool"
    about = "yes or no"
    annotation = "bool"
    default_type = bool
    samples = (True, False)
    varied = "number % 2 == 0"

    @property
    def filters(self) -> list[Filter]:
        return [Filter("", "bool", "'false'")]


class Date(Kind):
    usage = "date"
    about = "day"
    annotation = "date"
    default_type = date
    can_be_unique = is_ordered = True
    samples = (date(2026, 1, 31), date(2026, 2, 28))
    unique = "date(2026, 1, 31) + timedelta(days=number)"
    varied = "date(2026, 1, 31) + timedelta(days=number * 3 - 30)"


class DateTime(Kind):
    usage = "datetime"
    about = "moment: sent with a time zone, kept and returned in UTC"
    annotation = "AwareDatetime"
    sa_type = "DateTime(timezone=True)"
    is_ordered = True
    samples = (datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 2, 28, 12, tzinfo=UTC))
    wrong = ("perhaps", "2026-01-31T12:00:00")
    varied = "datetime(2026, 1, 31, 12, tzinfo=UTC) + timedelta(hours=number * 31 - 300)"
    spelt_otherwise = ("2026-01-31T13:00:00+01:00", "2026-01-31T12:00:00Z")

    def typed(self, value: Any) -> str:
        return repr(f"{value:%Y-%m-%d %H:%M:%S}")


class Time(Kind):
    usage = "time"
    about = "time of day, without a time zone"
    annotation = "LocalTime"
    wrong = ("perhaps", "08:30:00+02:00")
    default_type = time
    is_ordered = True
    samples = (time(8, 30), time(17, 45))
    varied = "time(8 + number % 10, number * 15 % 60)"


class Duration(Kind):
    usage = "duration"
    about = "span of time, in JSON as PT1H30M"
    annotation = "timedelta"
    is_ordered = True
    samples = (timedelta(minutes=30), timedelta(minutes=90))
    varied = "timedelta(minutes=15 * (number % 8 + 1))"


class Uuid(Kind):
    usage = "uuid"
    about = "id of another system"
    annotation = "UUID"
    can_be_unique = True
    samples = (UUID(int=1), UUID(int=2))
    unique = varied = "UUID(int=number)"

    @property
    def filters(self) -> list[Filter]:
        return [Filter("", "UUID", self.sent(self.samples[1]))]


class Enum(Kind):
    usage = "enum(draft,sent,void)"
    about = "one of these names, stored as text"

    def __init__(self, *values: str) -> None:
        self.members = {value.replace("-", "_").upper(): value for value in values}
        if any(not name.isidentifier() or name.startswith("_") for name in self.members):
            raise ValueError("each name has letters, digits, `-` or `_`, and begins with a letter")
        if not 1 < len(self.members) == len(values):
            raise ValueError("it takes two names or more, which differ")
        if (longest := max(map(len, values))) > 63:  # noqa: PLR2004
            raise ValueError(f"a name has {longest} characters, and may have 63")
        self.samples = (values[0], values[1])
        self.name_class("")

    def name_class(self, name: str, module: str = "") -> None:
        """Set the name of the class, and its module if it is there already."""
        self.annotation, self.module = name, module
        length = max(20, *map(len, self.members))  # with room for further members
        self.sa_type = f"Enum({name}, native_enum=False, length={length})"
        self.varied = f"[*{name}][number % {len(self.members)}]"

    @property
    def filters(self) -> list[Filter]:
        return [Filter("", self.annotation, repr(self.samples[1]))]

    def parse(self, text: str) -> Any:
        if text not in self.members.values():
            raise ValueError(f"it is none of {', '.join(self.members.values())}")
        return text

    def _member(self, value: Any) -> str:
        return next(name for name, each in self.members.items() if each == value)

    def code(self, value: Any) -> str:
        return f"{self.annotation}.{self._member(value)}"

    def typed(self, value: Any) -> str:
        return repr(self._member(value))


class List(Kind):
    usage = "list(str)"
    about = "at most 100 values of str, int, float or bool"
    empty = "list"
    columns: ClassVar = {"str": "Text", "int": "Integer", "float": "Float", "bool": "Boolean"}
    rules = MappingProxyType({"max_length": 100})

    def __init__(self, item: str = "str", *more: str) -> None:
        if more or item not in self.columns:
            raise ValueError("it takes one of str, int, float, bool")
        values: dict[str, Any] = {"int": (1, 2), "float": (1.5, 2.5), "bool": (True, False)}
        first, second = values.get(item, ("one", "two"))
        self.item, self.annotation = item, f"list[{item}]"
        self.samples, self.sa_type = ([first], [first, second]), f"ARRAY({self.columns[item]})"
        self.varied = f"{[first, second]!r}[: number % 3]"
        self.wrong = ("one", Code(f"[{first!r}] * 101"))

    def typed(self, value: Any) -> str:
        return repr(value) if self.item == "str" else repr(json.dumps(value))


class Json(Kind):
    usage = "json"
    about = "object of JSON"
    annotation = "dict[str, Any]"
    sa_type = "JSONB"
    empty = "dict"
    samples: tuple[Any, Any] = ({"colour": "red"}, {"sizes": [1, 2]})
    varied = "{'sizes': [number, number + 1]}"

    def typed(self, value: Any) -> str:
        return repr(json.dumps(value))


class Ref(Kind):
    usage = "ref(customer)"
    about = "row of another resource, or of this one"
    can_be_unique = True
    samples = (None, None)

    def __init__(self, model: str = "", *more: str) -> None:
        if more or not model:
            raise ValueError("it takes the name of one model")
        self.model = model
        self.refer_to("int")

    def refer_to(self, key: str) -> None:
        """Set the type of the other's id: `int`, `bigint` or `uuid`."""
        self.key, self.annotation = key, "UUID" if key == "uuid" else "int"
        self.rules, self.wrong = {}, ("one",)
        if key != "uuid":
            self.rules = {"ge": 1, "le": BIGINT[1] if key == "bigint" else INTEGER[1]}
            self.wrong = (0, "one")


KINDS: dict[str, type[Kind]] = {
    each.usage.partition("(")[0]: each
    for each in (
        *(Str, TextKind, Int, BigInt, DecimalKind, Float, Bool, Date, DateTime, Time, Duration),
        *(Enum, Ref, List, Json, Email, Url, Uuid),
    )
}


class Code(str):
    """Text that is code of a value already."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def rule_code(rules: Mapping[str, float]) -> list[str]:
    """Code of the arguments of `Field` that limit a value."""
    return [f"{name}={_number(value)}" for name, value in rules.items()]


def _number(value: float) -> str:
    for bits in (31, 63):
        for bound, code in ((2**bits, f"2**{bits}"), (-(2**bits), f"-(2**{bits})")):
            if value in (bound, bound - 1):
                return code if value == bound else f"{code} - 1"
    return f"{value:_}" if isinstance(value, int) else repr(value)


def _two(arguments: tuple[str, ...], what: str) -> tuple[str, str]:
    if len(arguments) != 2:  # noqa: PLR2004
        raise ValueError(f"it takes two numbers: {what}")
    return arguments[0], arguments[1]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None
