"""The names of a resource."""

import builtins
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import inflection
from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from kit.extensions import IDENTIFIER, extension_dir, public_name
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
