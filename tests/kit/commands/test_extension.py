"""`make extension`: which names it takes, and what it changes beside the new folder."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts

from app.core.config import BASE_DIR, StartupError
from app.main import app
from kit.commands import extension as command
from kit.commands.extension import (
    LONGEST_NAME,
    RESERVED,
    SKELETON,
    refuse_unusable_name,
    renamed,
    with_enabled,
)
from kit.extensions import extension_dir, present_extensions
from kit.migrations import CORE, SERVICE
from kit.models import AdminUser, ApiToken, AuditEntry
from kit.pages import TEMPLATES_DIR
from kit.settings import Settings as KitSettings

TABLE = """\
[project]
dependencies = ["hotel"]

[tool.service]
project_name = "My \\"Service\\"" # shown in pages
{line}
celery_timezone = "UTC"
"""


def pyproject_and_extensions() -> tuple[str, list[str]]:
    return (BASE_DIR / "pyproject.toml").read_text("utf-8"), present_extensions()


def kit_paths() -> Iterator[str]:
    for context in iter_route_contexts(app.routes):
        module = getattr(context.endpoint, "__module__", "")
        if context.path and module.startswith("kit.") and not module.startswith("kit.tests."):
            yield context.path
    yield from ("/admin", "/static", "/openapi.json")


def kit_tables() -> Iterator[str]:
    return (model.__tablename__ for model in (AdminUser, ApiToken, AuditEntry))


class TestNames:
    @pytest.mark.parametrize(
        ("name", "reason", "proposal"),
        [
            ("2quokkas", "beginning with a letter", "quokkas"),
            ("Quokka", "lower-case letters", "quokka"),
            ("quo-kka", "lower-case letters", "quo_kka"),
            ("quokka walks", "lower-case letters", "quokka_walks"),
            ("quokka__walks", "single underscores", "quokka_walks"),
            ("_quokka", "beginning with a letter", "quokka"),
            ("../quokka", "lower-case letters", "quokka"),
            ("quokka\n", "lower-case letters", "quokka"),
            ("class", "a keyword of Python", "own_class"),
            ("q" * (LONGEST_NAME + 1), f"at most {LONGEST_NAME}", "q" * LONGEST_NAME),
            ("tags", "`copier update` ignores", "own_tags"),
            ("build", "pytest and Ruff ignore", "own_build"),
            ("tests", "Ruff checks less", "own_tests"),
            ("htmlcov", "git ignores", "own_htmlcov"),
            ("example", "is taken by app/extensions/_example", "own_example"),
            ("tasks", "its routes like the kit's", "own_tasks"),
            ("api", "its tables like the kit's", "own_api"),
            ("health", "its routes like the kit's", "own_health"),
            ("admin", "its tables like the kit's", "own_admin"),
            ("static", "its routes like the kit's", "own_static"),
            ("scalar", "its routes like the kit's", "own_scalar"),
            ("postgres", "its settings like the kit's", "own_postgres"),
            ("redis", "its settings like the kit's", "own_redis"),
            ("celery", "its settings like the kit's", "own_celery"),
            ("audit", "its tables like the kit's", "own_audit"),
            ("alembic", "its tables like the kit's", "own_alembic"),
            ("core", "its migrations like the kit's", "own_core"),
            ("service", "its migrations like the kit's", "own_service"),
            ("heads", "its migrations like the kit's", "own_heads"),
            ("core_0001", "its migrations like the kit's", "own_core_0001"),
            ("partials", "its templates like the kit's", "own_partials"),
        ],
    )
    def test_refuses_with_the_reason_and_what_would_do(
        self, name: str, reason: str, proposal: str
    ) -> None:
        before = pyproject_and_extensions()
        with pytest.raises(StartupError) as refusal:
            command.main([name])

        assert f"no extension was made: {name!r} " in refusal.value.message
        assert reason in refusal.value.message
        assert refusal.value.message.endswith(f" Call it {proposal}, for example.")
        assert pyproject_and_extensions() == before

    def test_refuses_a_folder_that_is_left_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "left_over").mkdir()
        monkeypatch.setattr(command, "EXTENSIONS_DIR", tmp_path)
        with pytest.raises(StartupError, match="is taken by app/extensions/left_over"):
            refuse_unusable_name("left_over")

    def test_without_any_letter_there_is_nothing_to_propose(self) -> None:
        with pytest.raises(StartupError, match=r"as in loyalty_points\.$"):
            refuse_unusable_name("42")

    def test_every_name_of_the_kits_is_reserved(self) -> None:
        """First words of paths, settings and tables; branches; folders of templates."""
        words = {
            re.split(r"[/.]", path.removeprefix("/api/").strip("/"))[0] for path in kit_paths()
        }
        words |= {name.lower().partition("_")[0] for name in KitSettings.model_fields}
        words |= {table.partition("_")[0] for table in ("alembic_version", *kit_tables())}
        words |= {CORE, SERVICE, "heads"} | {path.name for path in TEMPLATES_DIR.glob("*/")}
        assert words - {""} <= RESERVED.keys()

    @pytest.mark.parametrize("name", ["quokka", "quokka_walks", "q", "q4u", "q" * LONGEST_NAME])
    def test_takes_others(self, name: str) -> None:
        refuse_unusable_name(name)


class TestRenamed:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("app.extensions._example.models", "app.extensions.loyalty_points.models"),
            ('"_example_0001"', '"loyalty_points_0001"'),
            ("pk_example_note", "pk_loyalty_points_note"),
            (
                "class ExampleNote(ExampleNoteInput)",
                "class LoyaltyPointsNote(LoyaltyPointsNoteInput)",
            ),
            ('category = "Example"', 'category = "Loyalty Points"'),
            ('tags=["Example notes"]', 'tags=["Loyalty Points notes"]'),
            ("EXAMPLE_PAGE_SIZE", "LOYALTY_POINTS_PAGE_SIZE"),
            ("/api/example/notes", "/api/loyalty_points/notes"),
            ("/admin/example-note/list", "/admin/loyalty-points-note/list"),
            ("example.note-created", "loyalty_points.note-created"),
            (".env.example", ".env.example"),
        ],
    )
    def test_in_every_form(self, before: str, after: str) -> None:
        assert renamed(before, "loyalty_points") == after

    @pytest.mark.parametrize(
        ("name", "address"), [("a_b", "ab-note"), ("b2b", "b2b-note"), ("route_66", "route66-note")]
    )
    def test_address_in_the_admin_follows_from_the_class(self, name: str, address: str) -> None:
        """SQLAdmin makes it of the class's name, in which words run together."""
        assert renamed("/admin/example-note", name) == f"/admin/{address}"

    @pytest.mark.parametrize("name", ["a", "match", "loyalty_points"])
    def test_nothing_of_the_old_name_is_left(self, name: str) -> None:
        for path in extension_dir(SKELETON).rglob("*.py"):
            text = renamed(path.read_text("utf-8"), name)
            ast.parse(text)
            assert not re.search(r"(?<!\.env\.)example", text, re.IGNORECASE), path


class TestWithEnabled:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("enabled_extensions = []", 'enabled_extensions = ["loyalty"]'),
            ("enabled_extensions=[] # none", 'enabled_extensions=["loyalty"] # none'),
            (
                'enabled_extensions = ["hotel"]  # rooms',
                'enabled_extensions = ["loyalty", "hotel"]  # rooms',
            ),
            (
                "enabled_extensions = [\n]",
                'enabled_extensions = [\n    "loyalty",\n]',
            ),
            (
                "enabled_extensions = [\n    # above\n]",
                'enabled_extensions = [\n    "loyalty",\n    # above\n]',
            ),
            (
                'enabled_extensions = [\n  "hotel" # [rooms]\n]',
                'enabled_extensions = [\n  "loyalty",\n  "hotel" # [rooms]\n]',
            ),
        ],
    )
    def test_adds_it_in_front_and_leaves_the_rest(self, before: str, after: str) -> None:
        changed = with_enabled(TABLE.format(line=before), "loyalty")

        assert changed == TABLE.format(line=after)
        tomllib.loads(changed)

    @pytest.mark.parametrize(
        "line",
        [
            "",
            'enabled_extensions = "hotel,mail"',
            "enabled_extensions = [1]]",
            '# enabled_extensions = ["hotel"]',
        ],
    )
    def test_changes_nothing_that_it_does_not_understand(self, line: str) -> None:
        assert with_enabled(TABLE.format(line=line), "loyalty") is None

    def test_a_list_of_another_table_is_another_list(self) -> None:
        other = "[tool.other]\nenabled_extensions = []\n"
        changed = with_enabled(other + TABLE.format(line="enabled_extensions = []"), "loyalty")
        assert changed is not None
        assert changed.startswith(other)
        assert tomllib.loads(changed)["tool"]["service"]["enabled_extensions"] == ["loyalty"]


class TestEnabling:
    @pytest.fixture
    def pyproject(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "pyproject.toml"
        path.write_text(TABLE.format(line="enabled_extensions = []"), "utf-8")
        monkeypatch.setattr(command, "PYPROJECT", path)
        return path

    def test_tells_when_the_environment_has_the_last_word(
        self, pyproject: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("ENABLED_EXTENSIONS", "hotel")
        command.enable("loyalty")
        assert 'enabled_extensions = ["loyalty"]' in pyproject.read_text("utf-8")
        told = capsys.readouterr().out
        assert "ENABLED_EXTENSIONS is set in the environment" in told
        assert "add loyalty there" in told

    def test_says_no_more_where_nothing_else_is_set(
        self, pyproject: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("ENABLED_EXTENSIONS", "")
        monkeypatch.setattr("kit.settings._base.dotenv_table", dict)
        command.enable("loyalty")
        assert capsys.readouterr().out == "It is enabled in pyproject.toml.\n"

    def test_tells_what_to_do_where_it_cannot(
        self, pyproject: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pyproject.write_text(TABLE.format(line=""), "utf-8")
        command.enable("loyalty")
        assert pyproject.read_text("utf-8") == TABLE.format(line="")
        assert 'add "loyalty" to enabled_extensions' in capsys.readouterr().out
