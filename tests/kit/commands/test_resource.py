"""`make resource`: what it refuses, and what it says and writes."""

import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError, field_validator
from sqlalchemy import CheckConstraint, DateTime, SmallInteger, UniqueConstraint
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from kit.commands import resource as command
from kit.resource import KINDS, Request, _service, _writing, write_resource
from kit.resource._fields import names_of, parse_fields
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
            ("count:int(1,9)=10", "less than or equal to 9, in count:int(1,9)=10"),
            ("share:float(1,0)", "smaller than the second, as in float(0,1): number with"),
            ("mail:email=50%", "mail: its default is no address of mail, in mail:email=50%"),
            ("site:url=example.com", "site: its default is no address that begins with https://"),
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

    def test_a_unique_one_is_found_by_its_value(self) -> None:
        for kind in ("str(20)", "int", "date", "email", "uuid"):
            found, plain = parse_fields(f"one:{kind}! other:{kind}", [])
            assert "" in [each.suffix for each in found.filters]
            assert ("" in [each.suffix for each in plain.filters]) is (kind in {"email", "uuid"})


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

    def test_a_variable_is_no_name_of_python_s_own(self) -> None:
        for name in ("id", "hash", "filter", "value"):
            assert names_of(name).variable == f"stored_{name}"

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

    def test_what_a_module_has_is_not_added_again(self) -> None:
        own = '"""Mine."""\n\nMail = Annotated[str, "@"]\n\n\nclass One:\n    """One."""\n'
        more = own.replace("One", "Two").replace("Mail", "Web = 1\nMail", 1)
        assert _writing._merged(own, more).count("Mail =") == 1
        assert "Web = 1" in _writing._merged(own, more)

    @pytest.mark.parametrize("more", ["class One:\n    pass\n", "Mail = 2\n", "import Mail\n"])
    def test_a_name_has_one_meaning_in_a_module(self, tmp_path: Path, more: str) -> None:
        path = tmp_path / "models.py"
        path.write_text("Mail = 1\n\n\nclass One:\n    pass\n", "utf-8")
        _writing._refuse_double_names({path: "Mail = 1\n\n\nclass Two:\n    pass\n"})
        with pytest.raises(StartupError, match="two things with one name"):
            _writing._refuse_double_names({path: more})


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

    def test_rules_that_only_its_owner_knows_have_a_place(self) -> None:
        class CrateInput(Own):
            code: str = Field(max_length=8)

            @field_validator("code")
            @classmethod
            def refuse_spaces(cls, code: str) -> str:
                return code

        class Crate(CrateInput, table=True):
            __table_args__ = (
                CheckConstraint("size > 5", name="large"),
                UniqueConstraint("code", "size", name="one_of_a_size"),
                UniqueConstraint("token"),
            )
            id: int | None = Field(default=None, primary_key=True)
            size: int
            token: str

        rules = _service.unknown_rules(Crate, [CrateInput])
        assert [*rules] == [
            "constraint large",
            "constraint one_of_a_size",
            "validator refuse_spaces",
        ]
        lines = Path(__file__).read_text("utf-8").splitlines()
        numbers = [int(place.rpartition(":")[2]) for place in rules.values()]
        assert "class Crate(" in lines[numbers[0] - 1]
        assert "@field_validator" in lines[numbers[-1] - 1]
        names = names_of("Crate", own_model="Crate", own_table="crate")
        crates = _writing.Resource(names, [], "app.models.crate", Crate, unknown_rules=rules)
        crates.files = {Path(name): name for name in ("factory.j2", "test_api.j2")}
        for text in _writing._rendered(crates).values():
            assert all(f"# - {rule}" in text for rule in rules)

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
