"""`make resource` in a rendered service: what it writes passes every check at once, and works."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import monotonic

import pytest

from tests.conftest import copy_template
from tests.documents import commands_of
from tests.repositories import REPOSITORY, commit_all
from tests.service import Service, cache_of_uv

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("resource")]

DOCUMENT = REPOSITORY / "docs" / "stack" / "resources.md"
STEPS = list(commands_of(DOCUMENT))
TUTORIAL = [line for line in STEPS if line.startswith("make resource")]

PROCESSOR_SECONDS = 120
"""At most, of the tutorial's commands, which leaves its reader three minutes on one core.

Processor time, which other work on the machine does not add to as it does to the time of day.
"""

CATEGORY = (
    "title:str! parent:ref(category)? rank:int(1,5000)! size:bigint share:float(0,1)=0.5 "
    "count:int=3 is_open:bool=true is_old:bool? note:text opens:time last:time?=08:30 "
    "seen:datetime? day:date! token:uuid! site:url! mail:email! facts:json marks:list(int)? "
    "span:duration kind:enum(a-b,c)? part:decimal(4,4) price:decimal(3,0)=1"
)

ORDER = (
    "number:str(20)! customer:ref(customer) payer:ref(customer)?! category:ref(category)? "
    "mail:email day:date?!"
)

RESOURCES = (
    ("name=Category", f"fields={CATEGORY}"),
    ("name=Order", f"fields={ORDER}", "extension=shop"),
    (
        "name=line",
        "fields=item:ref(order) count:int(1,99)=1 mail:email? site:url",
        "extension=shop",
        "page=1",
    ),
    ("name=Sheep", "fields=tags:list(str)", "page=1"),
    ("name=User", "fields=mail:email!", "page=0"),
    ("name=Filter", "fields=parent:ref(filter)?"),
)
"""Beside those of the tutorial: every kind of field, and every place of a reference."""

TABLES = len(TUTORIAL) + len(RESOURCES) + 2
"""With the notes of the extension, and the model of its owner."""

OWN_MODEL = '''\
"""Parcels."""

from uuid import UUID, uuid4

from sqlmodel import Field, SQLModel


class Parcel(SQLModel, table=True):
    """A parcel."""

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    label: str = Field(max_length=40, unique=True)
    weight: int | None = Field(default=None, ge=1, le=1000)
'''


def test_from_nothing_to_invoices_in_five_minutes(
    template: Path, service_folder: Path, record_property: Callable[[str, object], None]
) -> None:
    project = copy_template(template, service_folder / "tutorial")
    commit_all(project, "Start")
    service = Service(project, {"UV_CACHE_DIR": cache_of_uv()})
    service.make("setup")
    before, started = getrusage(RUSAGE_CHILDREN), monotonic()
    for command in STEPS:
        service.run("sh", "-c", command)
    passed, after = monotonic() - started, getrusage(RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    record_property("tutorial", f"{used:.0f} s of processor time, {passed:.0f} s in all")
    assert len(STEPS) == 4
    assert (project / "app" / "api" / "invoices.py").exists()
    assert used < PROCESSOR_SECONDS


@pytest.fixture(scope="module")
def written(service: Service, service_folder: Path) -> Service:
    """A service whose owner has written all of them."""
    project = service_folder / "resources"
    shutil.copytree(service.folder, project, ignore=shutil.ignore_patterns(".venv", ".data"))
    written = Service(project, service.environment)
    written.make("setup")
    written.make("extension", "name=shop")
    for command in TUTORIAL:
        written.run("sh", "-c", command)
    for arguments in RESOURCES:
        written.make("resource", *arguments)
    (project / "app" / "models" / "parcel.py").write_text(OWN_MODEL, encoding="utf-8")
    written.make("db-migrate", "message=add parcels")
    written.make("resource", "model=Parcel")
    commit_all(project, "Write resources")
    return written


def test_they_pass_the_checks_and_their_tests(written: Service) -> None:
    written.make("lint", "typecheck")
    written.make("test", "args=tests app/extensions/shop")


def test_nothing_is_left_for_a_migration(written: Service) -> None:
    written.make("db-upgrade")
    assert "No new upgrade operations" in written.run("uv", "run", "alembic", "check")
    assert "0 findings" in written.make("db-lint", "since=base")


CHECK_ROWS = """
from sqlmodel import SQLModel, select, text
import app.main
from kit.commands import command_session
from kit.commands.seed import find_factories

inputs = {each.__name__: each for each in SQLModel.__subclasses__()}
with command_session() as session:
    factories = find_factories()
    for model in (mapper.class_ for mapper in factories):
        for row in session.exec(select(model).order_by(text("ctid"))).all():
            inputs[f"{model.__name__}Input"].model_validate(row, from_attributes=True)
            random = set() if isinstance(row.id, int) else {"id"}
            kept = row.model_dump(exclude={"created_at", *random})
            print(model.__name__, sorted(kept.items()))
    tables = ", ".join(str(mapper.local_table) for mapper in factories)
    session.exec(text(f"TRUNCATE {tables} RESTART IDENTITY"))
"""
"""Prints all rows, if the routes' inputs accept them, and deletes them."""


def test_seed_makes_rows_that_the_routes_accept(written: Service) -> None:
    written.make("db-upgrade")
    runs = []
    for _ in range(2):
        told = written.make("seed", "rows=50")
        assert told.count(": 50 rows\n") == TABLES
        runs.append(written.run("uv", "run", "python", "-c", CHECK_ROWS))
    assert runs[0].count("\n") == TABLES * 50
    assert runs[0] == runs[1]


SHOW_PAGE = """
import app.main
from app.core.templates import templates
from app.extensions.shop.models import ShopLine

page = templates.get_template("shop/lines.html")
context = page.new_context({"rows": [ShopLine(site="https://example.com")]})
print("".join(page.blocks["content"](context)))
"""


def test_a_page_shows_a_dash_for_what_is_missing(written: Service) -> None:
    shown = written.run("uv", "run", "python", "-c", SHOW_PAGE)
    assert "<p>Mail: –</p>" in shown
    assert "<p>Site: https://example.com</p>" in shown


def test_nothing_in_them_tells_where_they_are_from(written: Service) -> None:
    changed = written.run(
        "git", "diff", "--name-only", "HEAD~1", "app", "tests", "kit"
    ).splitlines()
    texts = {path: (written.folder / path).read_text("utf-8") for path in changed}
    assert len([path for path in texts if path.endswith(".py")]) > 40
    named = re.compile(r"kit\.resource|make resource|inflection|generated(?! by Alembic)")
    assert [path for path, text in texts.items() if named.search(text)] == []
    assert [path for path in texts if path.startswith("kit/")] == []


def test_a_second_call_finds_what_is_in_the_way(written: Service) -> None:
    told = written.make("resource", "name=Invoice", "fields=number:str", status=2)
    assert "app/models/invoice.py:" in told
    assert "app/api/invoices.py:" in told
    assert written.run("git", "status", "--porcelain") == ""


MODEL, API, ADMIN = "app/models/invoice.py", "app/api/invoices.py", "app/admin/invoice.py"

BROKEN = (
    (MODEL, "min_length=1, max_length=20, unique", "unique", "Create.*does_not_fit.number-"),
    (MODEL, "max_digits=10, ", "", "Create.*does_not_fit.amount-"),
    (MODEL, "ge=1, le=2**31 - 1, foreign_key", "foreign_key", "Create.*does_not_fit.customer_id-0"),
    (MODEL, "default=InvoiceStatus.DRAFT", "default=InvoiceStatus.VOID", "Create.*has_its_default"),
    (MODEL, "default=None, min_length=1, max_length=20", "default=None", "Update.*fit.number-xx"),
    (API, 'write_scope="invoices:write"', 'write_scope="invoices:read"', "TestScopes.*POST"),
    (API, "    status: InvoiceStatus | None = None\n", "", "List.*is_narrowed.status-"),
    (API, '"-amount"', '"-id"', "List.*is_sorted.amount"),
    (API, "    number: str | None = None\n", "", "List.*is_narrowed.number-"),
    (API, "exclude_unset", "exclude_none", "Update.*nothing_else.due-None"),
    (API, "    await session.refresh(invoice)\n", "", "Create.*as_it_is_kept.amount"),
    (API, "session.delete(await _get_invoice(session, invoice_id))", "session.flush()", "is_gone"),
    (API, "HTTPStatus.NOT_FOUND", "HTTPStatus.GONE", "Read.*test_unknown"),
    (ADMIN, '    column_searchable_list = ("number",)\n', "", "admin.*test_searches"),
)
"""File, rule, what stands in its place, and the test that then fails."""


def test_each_rule_that_is_broken_fails_its_test(written: Service) -> None:
    for path, rule, other, _ in BROKEN:
        file = written.folder / path
        text = file.read_text(encoding="utf-8")
        assert rule in text, rule
        file.write_text(text.replace(rule, other, 1), encoding="utf-8")
    try:
        told = written.make("test", "args=tests/api/test_invoices.py tests/admin", status=2)
    finally:
        written.run("git", "checkout", "--", "app")
    failed = re.findall(r"^FAILED (.*?)(?: - |$)", told, re.MULTILINE)
    passed = [test for *_, test in BROKEN if not any(re.search(test, each) for each in failed)]
    assert passed == []
