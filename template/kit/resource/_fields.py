"""The names of a resource, and its fields: `fields="number:str(20)! due:date?"` describes them."""

import builtins
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import inflection
from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS
from sqlmodel import SQLModel
from wtforms import Form

from kit.extensions import IDENTIFIER, extension_dir, public_name
from kit.resource._kinds import KINDS, Date, Filter, Kind, Ref, Uuid, rule_code
from kit.settings import BASE_DIR

LONGEST_WORDS = 30
"""Characters of the name of a resource or a field, from which longer ones are made."""


@dataclass(frozen=True)
class Names:
    """What a resource is called at each place; in an extension `shop`, as in the examples."""

    name: str
    """`invoice_line`, without the extension."""
    plural: str
    extension: str
    words: str
    """`invoice line`, as in a sentence."""
    plural_words: str
    one: str
    """`an invoice line`"""
    title: str
    plural_title: str
    table: str
    """`shop_invoice_line`"""
    model: str
    """The class: `ShopInvoiceLine`."""
    camel: str
    """Without the extension: `InvoiceLine`."""
    camel_plural: str
    variable: str
    """Of a row, in functions."""
    identity: str
    """In addresses of the admin: `shop-invoice-line`."""
    category: str
    """Of the admin's views: the extension's name for people."""
    tag: str
    """In the documentation: `Shop invoice lines`."""
    scope: str
    """What the scopes begin with: `shop`; without an extension the plural."""
    below: str
    """Path of the routes, after `/api` and the extension's name: `/invoice-lines`."""
    page: str
    """Path of the page: `/shop/invoice-lines`."""
    path: str
    """Path of the routes: `/api/shop/invoice-lines`."""
    page_router: str
    page_template: str
    package: str
    """`app.extensions.shop`; without an extension `app`."""
    tests: str
    """The package of the tests."""
    folder: Path
    """Of `package`."""
    tests_folder: Path

    def problems(self) -> Iterator[str]:
        """Say what is wrong with the names themselves."""
        for what, name in (("name", self.name), ("plural", self.plural)):
            if not IDENTIFIER.fullmatch(name):
                yield f"{what}={name}: use letters, digits and single underscores, as in {EXAMPLES}"
            elif len(name) > LONGEST_WORDS:
                yield f"{what}={name}: it has {len(name)} characters, at most {LONGEST_WORDS} fit"
            elif keyword.iskeyword(name):
                yield f"{what}={name}: it is a keyword of Python"
        if self.table in RESERVED_WORDS:
            yield (
                f"name={self.name}: its table would have the name {self.table}, a reserved word of "
                f"SQL. Call it customer_{self.name}, for example"
            )
        if self.model.startswith("Test"):
            yield f"name={self.name}: pytest would take the class {self.model} for a test"


_IN_USE = re.compile(
    "address|answer|before|caller|client|count|error|escape|expected|first|found|ids|key|kept"
    "|made_up|method|name|number|one|order|pytest|query|request|rest|router|row|rows|scope|search"
    "|select|sent|session|taken|templates|text|typed|value|values"
)
"""Names that the functions of the files have for other things."""


def variable(name: str) -> str:
    """The variable of a row: its name, if functions do not use that for something else."""
    return f"stored_{name}" if _IN_USE.fullmatch(name) or hasattr(builtins, name) else name


EXAMPLES = "Invoice or invoice_line"


def names_of(
    name: str, plural: str = "", extension: str = "", *, own_model: str = "", own_table: str = ""
) -> Names:
    """Make the names of a resource.

    Args:
        name: as the caller wrote it, `InvoiceLine` or `invoice_line`.
        plural: the same in the plural, if the rules of English do not give it.
        extension: of an extension, which its tables are named after.
        own_model: the class, if it is there already.
        own_table: the table of that.
    """
    public = public_name(extension)
    singular = inflection.underscore(name.strip().replace(" ", "_"))
    singular = singular.removeprefix(f"{public}_") if extension else singular
    many = inflection.underscore(plural.strip().replace(" ", "_")) or inflection.pluralize(singular)
    words, plural_words = singular.replace("_", " "), many.replace("_", " ")
    vowel = words[:1] in tuple("aeio") or words.startswith(("up", "un", "ul", "ur"))
    whole = f"{public}_{singular}" if extension else singular
    # Each query would have to quote a reserved word, as `order` and `user` are.
    table = own_table or (many if whole in RESERVED_WORDS else whole)
    model = own_model or inflection.camelize(whole)
    category = public.replace("_", " ").title()
    below = f"/{many.replace('_', '-')}"
    page = f"/{public}{below}" if extension else below
    package = f"app.extensions.{extension}" if extension else "app"
    folder = extension_dir(extension) if extension else BASE_DIR / "app"
    return Names(
        name=singular,
        plural=many,
        extension=extension,
        words=words,
        plural_words=plural_words,
        one=f"{'an' if vowel else 'a'} {words}",
        title=words.capitalize(),
        plural_title=plural_words.capitalize(),
        table=table,
        model=model,
        camel=inflection.camelize(singular),
        camel_plural=inflection.camelize(many),
        variable=variable(singular),
        identity=inflection.dasherize(inflection.underscore(model)),
        category=category,
        tag=f"{category} {plural_words}" if extension else plural_words.capitalize(),
        scope=public if extension else many,
        below=below,
        page=page,
        path=f"/api{page}",
        page_router="page_router" if extension else "router",
        page_template=f"{public}/{many}.html" if extension else f"{many}.html",
        package=package,
        tests=f"{package}.tests" if extension else "tests",
        folder=folder,
        tests_folder=folder / "tests" if extension else BASE_DIR / "tests",
    )


EXAMPLE = "number:str(20)! amount:decimal(10,2) status:enum(draft,sent,void)=draft due:date?"

_FIELD = re.compile(
    r"(?P<name>[^:\s]+)(?::(?P<kind>\w+)(?:\((?P<arguments>[^()]*)\))?)?(?P<marks>[?!]*)"
    r"(?:=(?P<default>\"[^\"]*\"|'[^']*'|\S*))?(?=\s|$)"
)

TAKEN = {
    **dict.fromkeys(("id", "created_at"), "is a column of each resource"),
    **dict.fromkeys(("after", "limit", "sort"), "is a parameter of each list"),
    **dict.fromkeys(("date", "datetime", "time", "timedelta"), "is the name of a type"),
    "model": "is a name that the forms of the admin use",
    "l": "looks like 1, for which the linter refuses it",
    **dict.fromkeys(
        (*("str", "int", "float", "bool", "list", "dict", "type", "col", "func", "values"),),
        "is a name that the code around it uses",
    ),
}
"""Names that no field may have, each with the reason."""


class Reference(NamedTuple):
    """The model that a field refers to."""

    model: str
    module: str
    table: str
    label: str
    """The column by which a person finds a row."""
    factory: str = ""
    """Name of the module with its factory; empty for the resource itself."""
    make: str = ""
    """Name of its factory."""
    path: str = ""
    """Path of its routes if they delete a row, for example `/api/customers`."""


@dataclass
class Field:
    """A field, and what the files say about it, as Python code."""

    name: str
    kind: Kind
    is_nullable: bool = False
    is_unique: bool = False
    default: Any = None
    reference: Reference | None = None
    needs_foreign_keys: bool = False
    """Whether another field refers to the same table."""

    @property
    def column(self) -> str:
        """Name of the column, and of the field in the API."""
        return f"{self.name}_id" if isinstance(self.kind, Ref) else self.name

    @property
    def words(self) -> str:
        """As in a sentence: `due date`."""
        return self.name.replace("_", " ")

    @property
    def variable(self) -> str:
        """Of a row that it refers to, in functions."""
        return variable(self.name)

    @property
    def unknown(self) -> str:
        """Code of an id that there is not."""
        key = self.kind.key if isinstance(self.kind, Ref) else ""
        numbers = {"int": str(2**31 - 1), "bigint": str(2**63 - 1)}
        return numbers.get(key, '"00000000-0000-0000-0000-000000000000"')

    @property
    def is_required(self) -> bool:
        """Whether a caller has to send it."""
        return not (self.is_nullable or self.default is not None or self.kind.empty)

    @property
    def annotation(self) -> str:
        """The type in the model, with None if the column may be NULL."""
        return f"{self.kind.annotation} | None" if self.is_nullable else self.kind.annotation

    @property
    def declared(self) -> str:
        """What follows the annotation in the input."""
        default = ""
        if self.default is not None or self.is_nullable:
            default = f"default={self.default_code}"
        elif self.kind.empty:
            default = f"default_factory={self.kind.empty}"
        column = [f"sa_type={self.kind.sa_type}"] if self.kind.sa_type else []
        if self.reference:
            column = [f'foreign_key="{self.reference.table}.id"']
            column += [] if self.is_unique else ["index=True"]
        column += ["unique=True"] if self.is_unique else []
        arguments = [*([default] if default else []), *rule_code(self.kind.rules), *column]
        if len(arguments) == 1 and default.startswith("default="):
            return f" = {self.default_code}"
        return f" = Field({', '.join(arguments)})" if arguments else ""

    @property
    def returned(self) -> str:
        """The type in the output, which refuses nothing that is stored."""
        plain = {"EmailAddress": "str", "WebAddress": "str", "AwareDatetime": "datetime"}
        annotation = plain.get(self.kind.annotation, self.kind.annotation)
        return f"{annotation} | None" if self.is_nullable else annotation

    @property
    def patched(self) -> str:
        """What follows the annotation in the patch."""
        if self.is_nullable and not self.kind.rules:
            return " = None"
        return f" = Field({', '.join(['default=None', *rule_code(self.kind.rules)])})"

    @property
    def default_code(self) -> str:
        """Code of the default."""
        return "None" if self.default is None else self.kind.code(self.default)

    @property
    def default_sent(self) -> str:
        """Code of what the API returns where nothing was sent."""
        if self.default is None and not self.is_nullable:
            return repr([] if self.kind.empty == "list" else {})
        return self.kind.sent(self.default)

    @property
    def taken(self) -> str:
        """What makes JSON of the value of a row, around or behind it."""
        return "str({})" if isinstance(self.kind, Date | Uuid) else "{}"

    @property
    def taken_key(self) -> str:
        """What makes JSON of the id of a row that it refers to."""
        return "str({})" if self.kind.annotation == "UUID" else "{}"

    @property
    def wrong(self) -> list[str]:
        """Code of values that the field refuses."""
        return [*([] if self.is_nullable else ["None"]), *map(repr, self.kind.wrong)]

    @property
    def filters(self) -> list[Filter]:
        """The filters of the list."""
        filters = self.kind.filters
        if self.is_unique and not self.reference and all(each.suffix for each in filters):
            return [Filter("", self.kind.annotation, self.sent(1)), *filters]
        return filters

    @property
    def is_sortable(self) -> bool:
        """Whether a list is sorted by it."""
        return self.kind.is_ordered and not self.is_nullable

    def made_up(self, what: str, of: str, turn: int) -> str:
        """Code of the value of the made-up row of a `number`.

        Args:
            what: the words for the value; the field's own if empty.
            of: name of the resource.
            turn: number of the field, so that not all are NULL in the same rows.
        """
        code = self.kind.made_up(what or self.words.capitalize(), of, is_unique=self.is_unique)
        return f"{code} if number % {3 + turn % 3} else None" if self.is_sometimes_null else code

    @property
    def is_sometimes_null(self) -> bool:
        """Whether some of the made-up rows have no value."""
        return self.is_nullable and not self.is_unique and self.default is None

    def sample(self, which: int) -> str:
        """Code of a value of the model."""
        return self.kind.code(self.kind.samples[which])

    def sent(self, which: int) -> str:
        """Code of a value that a caller sends."""
        return self.kind.sent(self.kind.samples[which])

    def typed(self) -> str:
        """Code of a value that a person types."""
        return self.kind.typed(self.kind.samples[0])


def parse_fields(text: str, problems: list[str]) -> list[Field]:
    """Read the description of fields; what is wrong in it is added to the problems."""
    fields: list[Field] = []
    rest = text.strip()
    while rest:
        if match := _FIELD.match(rest):
            rest = rest[match.end() :].lstrip()
            fields += _field(match, problems)
        else:
            word, _, rest = rest.partition(" ")
            problems.append(f"{word}: cannot be read; write name:kind, as in number:str(20)!")
            rest = rest.lstrip()
    seen: set[str] = set()
    for each in fields:
        for name in {each.name, each.column}:
            if name in seen:
                problems.append(f"{each.name}: {name} is the name of two fields")
            seen.add(name)
    return fields


def _field(match: re.Match[str], problems: list[str]) -> Iterator[Field]:
    name, kind = match["name"], match["kind"] or "str"
    problems += [f"{name}: {reason}" for reason in refuse_name(name)]
    if kind not in KINDS:
        close = get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(KINDS)}"
        problems.append(f"{name}: there is no kind {kind}; {hint}")
        return
    given = match["arguments"]
    try:
        made = KINDS[kind](*(each.strip() for each in given.split(",")) if given else ())
    except ValueError as error:
        problems.append(f"{name}: {error}, as in {KINDS[kind].usage}: {KINDS[kind].about}")
        return
    try:
        field = Field(name, made, "?" in match["marks"], "!" in match["marks"])
        if field.is_unique and not made.can_be_unique:
            raise ValueError("cannot be unique; leave `!` out")  # noqa: TRY301
        if match["default"] is not None:
            if field.is_unique:
                raise ValueError("a unique field has no default")  # noqa: TRY301
            field.default = match["default"].strip("\"'")  # an enumeration has its class only later
            made.parse(field.default)
            field.default = made.parse(field.default)
    except ValueError as error:
        problems.append(f"{name}: {error}, in {match[0]}")
        return
    yield field


def refuse_name(name: str) -> Iterator[str]:
    """Say why a field cannot have a name, if so."""
    if not IDENTIFIER.fullmatch(name):
        yield "a name has lower-case letters, digits and single underscores, as in due_date"
    elif len(name) > LONGEST_WORDS:
        yield f"a name has at most {LONGEST_WORDS} characters"
    elif name in TAKEN:
        yield f"{TAKEN[name]}; choose another name"
    elif keyword.iskeyword(name) or keyword.issoftkeyword(name):
        yield "is a word of Python; choose another name"
    elif name in RESERVED_WORDS:
        yield "is a reserved word of SQL; choose another name"
    elif hasattr(Form, name) or name == "meta":
        yield "is a name that the forms of the admin use; choose another name"
    elif hasattr(SQLModel, name) or name.startswith(("model_", "sqlmodel_")):
        yield "is a name that pydantic and SQLModel use; choose another name"
