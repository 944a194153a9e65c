"""`make resource`: what it refuses, and that whatever it writes passes the project's own checks."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import DateTime, SmallInteger
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from kit.commands import resource as command
from kit.resource import KINDS, Request, _service, _writing, write_resource
from kit.resource._fields import parse_fields
from kit.resource._names import names_of
from kit.settings import BASE_DIR, StartupError

FIELDS = "number:str(20)! amount:decimal(10,2) status:enum(draft,sent)=draft due:date?"


def refused(**asked: Any) -> str:
    with pytest.raises(StartupError) as error:
        list(write_resource(Request(**asked), is_dry=True))
    return str(error.value)


class TestFields:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("due:datum", "due: there is no kind datum; did you mean date?"),
            ("due:date due:time", "due: due is the name of two fields"),
            ("shop:ref(shop) shop_id:int", "shop_id: shop_id is the name of two fields"),
            ("Due:date", "Due: a name has lower-case letters"),
            ("class:str", "class: is a word of Python"),
            ("user:str", "user: is a reserved word of SQL"),
            ("metadata:json", "metadata: is a name that pydantic and SQLModel use"),
            ("model_year:int", "model_year: is a name that pydantic and SQLModel use"),
            ("data:json", "data: is a name that the forms of the admin use"),
            ("id:int", "id: is a column of each resource"),
            ("limit:int", "limit: is a parameter of each list"),
            ("model:str", "model: is a name that the forms of the admin use"),
            ("l:int", "l: looks like 1"),
            ("date:date", "date: is the name of a type"),
            ("n" * 31, "a name has at most 30 characters"),
            ("due:date(3)", "due: takes nothing in parentheses"),
            ("due date:", "date:: cannot be read"),
            ("name:str(0)", "name: its length is a number from 1 on"),
            ("count:int(5,5)", "count: the first number is smaller than the second"),
            ("count:int(5)", "count: it takes two numbers"),
            ("count:int(a,b)", "count: 'a' is no whole number"),
            ("share:float(1,0)", "share: the first number is smaller"),
            ("price:decimal", "price: it takes two numbers"),
            ("price:decimal(2,3)", "price: it has 1 to 28 digits"),
            ("state:enum(on)", "state: it takes two names or more"),
            ("state:enum(on,On)", "state: it takes two names or more"),
            ("state:enum(on,2)", "state: each name has letters"),
            ("state:enum(on,off)=of", "state: it is none of on, off"),
            ("names:list(date)", "names: it takes one of str, int, float, bool"),
            ("other:ref", "other: it takes the name of one model"),
            ("is_on:bool!", "is_on: cannot be unique"),
            ("count:int=many", "count: Input should be a valid integer"),
            ("count:int(1,9)=10", "count: Input should be less than or equal to 9"),
            ("name:str!=x", "name: a unique field has no default"),
            ("spots:json=1", "spots: it takes no default"),
        ],
    )
    def test_a_wrong_one_is_refused_with_the_reason(self, text: str, reason: str) -> None:
        problems: list[str] = []
        parse_fields(text, problems)
        assert any(problem.startswith(reason) or reason in problem for problem in problems), (
            problems
        )

    def test_all_reasons_are_told_at_once(self) -> None:
        told = refused(name="Invoice", fields="due:datum id:int x:ref(nowhere)")
        assert all(reason in told for reason in ("no kind datum", "id: is a", "no model nowhere"))

    def test_a_row_cannot_have_to_refer_to_its_own_table(self) -> None:
        assert "parent: the first row" in refused(name="Folder", fields="parent:ref(folder)")


class TestNames:
    @pytest.mark.parametrize(
        ("name", "plural"),
        [
            ("Invoice", "invoices"),
            ("category", "categories"),
            ("Person", "people"),
            ("OrderStatus", "order_statuses"),
            ("sheep", "sheep"),
        ],
    )
    def test_plural(self, name: str, plural: str) -> None:
        assert names_of(name).plural == plural

    def test_one_of_an_extension_has_its_name_once(self) -> None:
        for name in ("Order", "ShopOrder", "shop_order"):
            names = names_of(name, extension="shop")
            assert (names.model, names.table, names.path) == (
                "ShopOrder",
                "shop_order",
                "/api/shop/orders",
            )

    def test_a_table_is_no_reserved_word(self) -> None:
        names = names_of("Order")
        assert (names.model, names.table, names.path) == ("Order", "orders", "/api/orders")

    @pytest.mark.parametrize(
        ("asked", "reason"),
        [
            ({"name": "Analyse", "plural": "analyse"}, "a reserved word of SQL"),
            ({"name": "Test_run"}, "pytest would take the class TestRun for a test"),
            ({"name": "2nd"}, "name=2nd: use letters"),
            ({"name": "x" * 31}, "it has 31 characters"),
            ({"name": "Decimal"}, "two things with one name: Decimal"),
            ({"name": "Leaf", "plural": "le aves!"}, "plural=le_aves!: use letters"),
            ({"name": "Leaf", "extension": "nowhere"}, "extension=nowhere: it is not enabled"),
            ({"name": "Leaf", "from_model": True}, "there is no model Leaf in app.models"),
        ],
    )
    def test_a_wrong_one_is_refused(self, asked: dict[str, str], reason: str) -> None:
        assert reason in refused(fields="size:int", **asked)

    def test_names_that_postgresql_would_cut_are_refused(self) -> None:
        told = refused(name="a" * 30, plural="many", fields=f"{'b' * 30}:str!")
        assert "has more than 63 characters" in told


class TestInTheWay:
    """Each is named by file and line."""

    def test_a_model(self) -> None:
        told = refused(name="Note", extension="_example", fields="title:str")
        assert "app/extensions/_example/models.py:" in told
        assert "the model ExampleNote has the table example_note" in told

    def test_a_route_and_its_tag(self) -> None:
        told = refused(name="memo", plural="notes", extension="_example", fields="title:str")
        assert "the route /example/notes is there" in told
        assert "there is a tag Example notes" in told
        assert "app/extensions/_example/api/notes.py:" in told

    def test_a_route_of_the_kit(self) -> None:
        told = refused(name="Task", fields="title:str")
        assert "kit/http/_routers.py:" in told
        assert "there is a tag Tasks. Choose another with plural=…" in told

    def test_a_unique_reference_to_its_own_table(self) -> None:
        told = refused(name="Person", fields="boss:ref(person)?!")
        assert "boss: cannot be unique in its own table" in told

    def test_a_file(self) -> None:
        told = refused(name="Page", fields="title:str")
        assert "app/api/pages.py:1: this file is there already" in told


def files_of_the_service() -> dict[Path, float]:
    folders = [BASE_DIR / name for name in ("app", "tests", "alembic", "templates")]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime for path in paths if "__pycache__" not in path.parts}


class TestWriting:
    def test_a_dry_run_shows_all_and_writes_nothing(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = files_of_the_service()
        command.main(["--name", "Invoice", "--fields", FIELDS, "--page", "--dry-run"])
        shown = capsys.readouterr().out
        assert "class Invoice(InvoiceInput, table=True):" in shown
        assert "app/api/pages.py\n" in shown
        assert "tests/admin/test_invoices.py\n" in shown
        assert files_of_the_service() == before

    def test_what_fails_in_the_middle_leaves_nothing(self, tmp_path: Path) -> None:
        kept = tmp_path / "kept.py"
        kept.write_text("old", "utf-8")
        texts = {kept: "new", tmp_path / "a" / "b" / "c.py": "new"}
        writing = _writing._written(texts)
        writing.__enter__()
        assert kept.read_text("utf-8") == "new"
        assert not writing.__exit__(OSError, OSError("full"), None)
        assert {path: path.read_text("utf-8") for path in tmp_path.iterdir()} == {kept: "old"}

    def test_more_goes_behind_what_a_module_has(self) -> None:
        own = '"""Mine."""\n\nimport os\n\nHERE = os.curdir\n'
        more = '"""More."""\n\nimport sys\n\n\n@sys.call\ndef more() -> None:\n    """Do."""\n'
        assert _writing._merged(own, more) == (
            '"""Mine."""\n\nimport os\nimport sys\n\nHERE = os.curdir\n\n\n'
            '@sys.call\ndef more() -> None:\n    """Do."""\n'
        )


class TestForms:
    def test_an_output_refuses_nothing_that_is_stored(self) -> None:
        fields = "name:str(5) mail:email count:int(1,3) seen:datetime? tags:list(str)"
        text = _writing._texts(Request("Sample", fields))[0][BASE_DIR / "app/models/sample.py"]
        names: dict[str, Any] = {}
        # Without the table, which would join those of the service.
        exec(re.sub(r"(?s)\nclass Sample\(.*?(?=\nclass SamplePatch)", "", text), names)  # noqa: S102
        stored = {"name": "", "mail": "nowhere", "count": 7, "seen": None, "tags": ["x"] * 101}
        with pytest.raises(ValidationError) as refused:
            names["SampleInput"].model_validate(stored)
        assert refused.value.error_count() == 4
        made = {"id": 1, "created_at": datetime.now(UTC)}
        output = names["SampleOutput"].model_validate(stored | made)
        assert output.model_dump() == stored | made


class Own(SQLModel, registry=registry()):
    """The tables of these tests, which are none of the service's."""


class Shelf(Own, table=True):
    """A model that its owner wrote."""

    id: int | None = Field(default=None, primary_key=True)
    code: str = Field(default="", max_length=8)
    place: int = Field(sa_type=SmallInteger)
    token: str = Field(default_factory=str, max_length=200)
    seen: datetime = Field(sa_type=DateTime(timezone=False))


class TestModelThatIsThere:
    def test_its_fields_have_its_rules(self) -> None:
        problems: list[str] = []
        fields = {each.name: each for each in _service.fields_of(Shelf, problems)}
        assert dict(fields["code"].kind.rules) == {"max_length": 8}
        assert "" not in fields["code"].kind.wrong
        assert dict(fields["place"].kind.rules) == {"ge": -32768, "le": 32767}
        assert "Shelf.seen is a moment without a time zone" in problems[0]
        assert [*_service.own_rules(Shelf, [*fields.values()])] == ["token"]

    def test_a_patch_needs_the_rules_of_the_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class ShelfInput(SQLModel):
            code: str = Field(max_length=8, min_length=3)

        fields = [each for each in _service.fields_of(Shelf, []) if each.name == "code"]
        resource = _writing.Resource(names_of("Shelf"), fields, "app.models.shelf", Shelf)
        module = SimpleNamespace(ShelfInput=ShelfInput)
        monkeypatch.setattr(_writing, "import_module", lambda _: module)
        problems: list[str] = []
        _writing._complete(resource, problems)
        assert resource.missing_forms == ("Patch", "Output")
        assert len(problems) == 1
        assert "write ShelfPatch beside it, since only you know the rules of code" in problems[0]

    def test_a_list_of_it_is_no_view(self) -> None:
        places = [place for name, place in _service.registered() if name == "view ExampleNote"]
        assert len(places) == 1
        assert places[0].startswith("app/extensions/_example/admin/")


class TestWithoutArguments:
    def test_without_a_terminal_it_is_explained(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
        assert command.main([]) == command.MISUSED
        told = capsys.readouterr().err
        assert all(kind.about in told for kind in KINDS.values())
        assert "make resource name=Invoice" in told

    def test_on_a_terminal_it_asks(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = iter(["Invoice", "number:str(20)", "due:date?", ""])
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda _: next(answers))
        command.main(["--dry-run"])
        assert "due: date | None = None" in capsys.readouterr().out


WORDS = st.from_regex(r"[a-z]{3,9}(_[a-z0-9]{1,8}){0,2}", fullmatch=True)
SLOW = [HealthCheck.too_slow, HealthCheck.large_base_example, HealthCheck.data_too_large]
MEMBERS = st.lists(st.sampled_from(["new", "old", "in-use", "on_hold"]), min_size=2, unique=True)


@st.composite
def described(draw: st.DrawFn, itself: str) -> str:
    """A field of any kind, as a person describes it."""
    whole = st.integers(-(2**31), 2**31 - 1)
    bounds = st.lists(whole, min_size=2, max_size=2, unique=True).map(sorted)
    kinds = {
        "str": st.integers(1, 999).map(lambda n: f"str({n})"),
        "text": st.sampled_from(["text", "text(70)"]),
        "int": bounds.map(lambda pair: f"int({pair[0]},{pair[1]})"),
        "bigint": bounds.map(lambda pair: f"bigint({pair[0]},{pair[1]})"),
        "float": bounds.map(lambda pair: f"float({pair[0]},{pair[1]}.5)"),
        "decimal": st.sampled_from(["decimal(10,2)", "decimal(3,0)", "decimal(4,4)"]),
        "enum": MEMBERS.map(lambda names: f"enum({','.join(names)})"),
        "list": st.sampled_from(["list(str)", "list(int)", "list(float)", "list(bool)"]),
        "ref": st.just(f"ref({itself})?"),
    }
    name, kind = draw(WORDS), draw(st.sampled_from(sorted(KINDS)))
    made = draw(kinds.get(kind, st.just(kind)))
    unique = st.just("!" if kind in ("uuid", "email", "url", "date") else "")
    return f"{name}:{made}" + draw(st.just("?") | unique if "?" not in made else st.just(""))


LISTS = int(os.environ.get("RESOURCE_LISTS", "32"))
"""Of fields that are drawn, eight at a time."""


@settings(
    max_examples=LISTS // 8, deadline=None, phases=[Phase.generate], suppress_health_check=SLOW
)
@given(st.data())
def test_whatever_it_writes_passes_the_checks(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    texts: dict[Path, str] = {}
    for name in data.draw(st.lists(WORDS, min_size=8, max_size=8, unique=True)):
        fields = data.draw(st.lists(described(name), min_size=1, max_size=9))
        with contextlib.suppress(StartupError):  # a word that is reserved, or drawn twice
            texts |= _writing._texts(Request(name, " ".join(fields)))[0]
    folder = tmp_path_factory.mktemp("written")
    for path, text in _writing._formatted(texts).items():
        copy = folder / path.relative_to(BASE_DIR)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    shutil.copy(BASE_DIR / "pyproject.toml", folder)
    for arguments in (["check", "--extend-ignore", "INP001"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *arguments]
        done = subprocess.run(ruff, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
