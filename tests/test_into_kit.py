"""Releases that move files: 0.5.0 the machinery into `kit/`, later ones modules of it into one.

What owners had changed goes along. Rehearsed from the real releases to the working tree. Most
tests ask what the migration calculates, which takes a second; the others run `copier update`.
"""

import ast
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count
from pathlib import Path

import pytest
from copier import run_copy, run_update
from packaging.version import Version

from hooks.moves.imports import add_imports
from hooks.moves.makefiles import merge_makefiles
from hooks.moves.merging import merge_modules
from hooks.moves.migration import follow, owned_paths, route
from hooks.moves.names import Names, Table
from hooks.moves.projects import merge_projects
from hooks.moves.report import Topic
from hooks.moves.rewriting import Rewriter, is_text
from hooks.moves.state import State
from hooks.moves.trees import Files, read_folder
from hooks.rename import merge
from tests.fast_copier import fast_copier
from tests.owner_edits import EDITS, Edit, apply, at_end, instead
from tests.releases import clone_with_releases, released_versions
from tests.repositories import REPOSITORY, WORKING_TREE, commit_all, edit, git, tree

MOVED = "0.5.0"
STARTS = [each for each in released_versions() if Version(each) < Version(MOVED)]
OLDEST, *_, NEWEST = STARTS
QUICK = [*(pytest.param(each, marks=pytest.mark.full) for each in STARTS[:-1]), NEWEST]
TABLES = Table.load_all()
TABLE, *MERGING = TABLES
"""The move into the kit, and those inside of it."""
BEFORE = ["0.5.0", "0.11.0"]
"""The last releases before the moves inside of the kit."""
OWNED = owned_paths(REPOSITORY)
GONE = {"kit/database/_shared_connections.py"}
"""Targets that were given up before the release; the table has them for imports to be reported."""

Calculate = Callable[..., State]


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with all its releases."""
    return clone_with_releases(tmp_path_factory.mktemp("releases") / "groundwork")


@pytest.fixture(scope="session")
def rendered(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that renders a version, once for all tests."""

    @cache
    def render(version: str) -> Path:
        folder = tmp_path_factory.mktemp("rendered") / "project"
        with fast_copier():
            run_copy(
                str(releases), folder, vcs_ref=f"v{version}", defaults=True, unsafe=True, quiet=True
            )
        (folder / ".copier-answers.yml").unlink()
        return folder

    return render


@pytest.fixture(scope="session")
def new(rendered: Callable[[str], Path]) -> Files:
    """The files of the new release."""
    return read_folder(rendered(WORKING_TREE))


@pytest.fixture(scope="session")
def moved(rendered: Callable[[str], Path]) -> Files:
    """The files of release 0.5.0."""
    return read_folder(rendered(MOVED))


@pytest.fixture(scope="session")
def after(rendered: Callable[[str], Path], new: Files) -> list[Files]:
    """The files of each release that moved some; the newest one is the new release."""
    return [*(read_folder(rendered(each.version)) for each in TABLES[:-1]), new]


@pytest.fixture(scope="session")
def last(rendered: Callable[[str], Path]) -> Files:
    """The files of the last release before the newest move."""
    return read_folder(rendered(BEFORE[-1]))


@pytest.fixture(scope="session")
def expected(moved: Files, new: Files) -> Files:
    """What a service without edits becomes: a copy, with the owner's files of release 0.5.0."""
    return {path: moved[path] for path in moved if is_owned(path)} | {
        path: new[path] for path in new if not is_owned(path)
    }


def is_owned(path: str) -> bool:
    """Whether updates leave a file alone."""
    return any(path == each or path.startswith(f"{each}/") for each in OWNED)


@pytest.fixture(scope="session")
def names(moved: Files) -> Names:
    """Where names are since 0.5.0."""
    return Names(TABLE, moved)


@pytest.fixture(scope="session")
def crossing(
    rendered: Callable[[str], Path],
    after: list[Files],
    tmp_path_factory: pytest.TempPathFactory,
) -> Calculate:
    """A function that calculates what becomes of a project with edits and deleted files."""

    def cross(version: str, edits: Sequence[Edit] = (), deleted: Sequence[str] = ()) -> State:
        base = read_folder(rendered(version))
        project = tmp_path_factory.mktemp("edited") / "project"
        shutil.copytree(rendered(version), project)
        apply(edits, project)
        for path in deleted:
            (project / path).unlink()
        return carried(version, base, read_folder(project), after)

    return cross


def carried(version: str, base: Files, edited: Files, after: list[Files]) -> State:
    """What becomes of a project of a release, by the later ones of the moves to these files."""
    stages = []
    for table, files in zip(TABLES, after, strict=False):
        if Version(version) < Version(table.version):
            stages.append((table, (base, files)))
            base = files
    return follow(edited, stages, OWNED)


def place_now(path: str) -> str:
    """Where a file of the kit is after the moves inside of it."""
    for table in MERGING:
        path = table.paths.get(path, path)
    return path


@pytest.fixture(scope="session")
def edited(crossing: Calculate) -> Callable[[str], State]:
    """A function that calculates what becomes of a version with all edits, once for all tests."""
    return cache(lambda version: crossing(version, EDITS))


def misplaced(files: Files, edits: list[Edit] = EDITS) -> dict[str, list[str]]:
    """Edits that are not where they belong, with the files that hold them instead."""
    return {
        f"{edit.path}: {edit.word}": [
            path for path, content in files.items() if edit.word.encode() in content
        ]
        for edit in edits
        if edit.word.encode() not in files.get(place_now(edit.place), b"")
    }


def imports_of(path: str, content: bytes) -> Iterator[tuple[str, str]]:
    """Modules of the service that a module imports, and the names that it takes from them."""
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            package = Path(path).parent.parts[: len(Path(path).parent.parts) - node.level + 1]
            module = ".".join([*(package if node.level else ()), *filter(None, [node.module])])
            for alias in node.names:
                yield module, alias.name


def broken_imports(files: Files) -> list[str]:
    """Imports of what the service does not have."""
    modules = {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): content
        for path, content in files.items()
        if path.endswith(".py")
    }
    packages = {".".join(Path(path).parts[:n]) for path in files for n in range(1, 9)}
    found = []
    for path, content in files.items():
        if not path.endswith(".py"):
            continue
        for module, name in imports_of(path, content):
            if module.split(".")[0] not in {"app", "kit", "tests", "devservices"}:
                continue
            is_module = f"{module}.{name}" in {*modules, *packages} or name in {"", "*"}
            known = modules.get(module, b"" if module in packages else None)
            if known is None or not (is_module or name in bound_in(known)):
                found.append(f"{path}: {module} {name}")
    return found


def bound_in(content: bytes) -> set[str]:
    """Names that a module binds at its top, those that types alone need included."""
    return {
        name
        for node in ast.walk(ast.parse(content))
        for name in (
            [node.name]
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            else [alias.asname or alias.name for alias in node.names]
            if isinstance(node, ast.Import | ast.ImportFrom)
            else [node.id]
            if isinstance(node, ast.Name)
            else []
        )
    }


@pytest.fixture(scope="session")
def before(rendered: Callable[[str], Path], after: list[Files]) -> list[set[str]]:
    """Paths that a release may have had before each move, by the releases at both ends."""
    first, *ends = (read_folder(rendered(each)).keys() for each in (NEWEST, *BEFORE))
    return [{*first}, *({*start, *end} for start, end in zip(after, ends, strict=False))]


class TestTables:
    def test_have_each_path_of_the_release_before(self, before: list[set[str]]) -> None:
        assert {*TABLE.moves, *TABLE.testing} - before[0] == set()
        for table, there in zip(MERGING, before[1:], strict=True):
            assert table.paths.keys() - there == set()

    def test_lead_to_files_of_the_new_one(self, after: list[Files]) -> None:
        assert set(TABLE.paths.values()) - after[0].keys() == GONE
        assert TABLE.short - after[0].keys() == set()
        for table, files in zip(MERGING, after[1:], strict=True):
            assert set(table.paths.values()) - files.keys() == set()

    def test_are_of_the_releases_that_the_docs_name(self) -> None:
        text = (REPOSITORY / "docs/updating.md").read_text(encoding="utf-8")
        *versions, last = (table.version for table in TABLES)
        names = f"{', '.join(versions)} and {last}"
        assert f"## Crossing {names}\n" in text
        assert f"so far those are {names}." in text

    def test_leave_out_no_module_that_has_gone(
        self, before: list[set[str]], after: list[Files]
    ) -> None:
        gone = before[0] - after[0].keys()
        assert gone - TABLE.paths.keys() - TABLE.kit_tests.keys() == set()
        for table, there, files in zip(MERGING, before[1:], after[1:], strict=True):
            gone = {path for path in there - files.keys() if not is_owned(path)}
            assert gone - table.paths.keys() == set()


@pytest.mark.parametrize("version", QUICK)
class TestFromEachRelease:
    def test_a_project_without_edits_becomes_what_a_copy_is(
        self, version: str, crossing: Calculate, expected: Files
    ) -> None:
        state = crossing(version)
        assert state.outcome() == expected
        assert [state.report.lines(topic) for topic in Topic] == [[]] * len(Topic)

    def test_every_edit_is_where_it_belongs(
        self, version: str, edited: Callable[[str], State]
    ) -> None:
        state = edited(version)
        assert misplaced(state.outcome()) == {}
        assert state.conflicts() == {}
        assert broken_imports(state.outcome()) == []

    def test_the_owner_s_code_imports_faces(
        self, version: str, edited: Callable[[str], State]
    ) -> None:
        state = edited(version)
        reported = "\n".join(state.report.lines(Topic.LOOK))
        for path, content in state.outcome().items():
            if path.endswith(".py") and not path.startswith("kit/"):
                for module, name in imports_of(path, content):
                    is_private = module.startswith("kit") and "._" in f"{module}.{name}"
                    assert not is_private or path in reported, f"{path}: {module} {name}"


@pytest.mark.full
@pytest.mark.parametrize(
    ("version", "seed"), list(zip([OLDEST, NEWEST, *BEFORE], count(), strict=False))
)
def test_no_comment_is_lost_wherever_it_stands(
    version: str, seed: int, rendered: Callable[[str], Path], after: list[Files]
) -> None:
    """One above a statement of each module, and one at the end of each other text."""
    base = read_folder(rendered(version))
    edited, words = dict(base), list[str]()
    for path, content in base.items():
        if path not in TABLE.kit_tests and len(content) > 100 and is_text(path):
            words.append(f"comment_{len(words):03d}_of_ours")
            text = with_comment(content.decode(), path, words[-1], random.Random(f"{path}{seed}"))  # noqa: S311
            edited[path] = text.encode()
    state = carried(version, base, edited, after)
    everything = b"\n".join(state.outcome().values()).decode(errors="ignore")
    assert [word for word in words if word not in everything] == []
    assert len(words) > 100
    assert len(state.conflicts()) < 4
    for path, content in state.outcome().items():
        if path.endswith(".py") and path not in state.conflicts():
            ast.parse(content)


def with_comment(text: str, path: str, word: str, chance: random.Random) -> str:
    """A text with a comment above one of its statements, or at its end."""
    lines = text.split("\n")
    statements = [
        node
        for node in ast.walk(ast.parse(text) if path.endswith(".py") else ast.parse(""))
        if isinstance(node, ast.stmt) and not isinstance(node, ast.Import | ast.ImportFrom)
    ][1:]
    if not statements:
        return text.rstrip("\n") + f"\n# {word}\n"
    node = chance.choice(statements)
    at = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
    return "\n".join([*lines[: at - 1], f"{' ' * node.col_offset}# {word}", *lines[at - 1 :]])


class TestReport:
    @pytest.fixture
    def state(self, edited: Callable[[str], State]) -> State:
        """A project with edits in every kind of file."""
        return edited(NEWEST)

    def test_says_what_moved_with_edits(self, state: State) -> None:
        assert "app/core/errors.py -> kit/errors.py" in state.report.lines(Topic.MOVED)

    def test_says_what_stays_the_owner_s(self, state: State) -> None:
        lines = "\n".join(state.report.lines(Topic.SHORT))
        assert "app/core/config.py: FINE, CURRENCY, REDIS_POOL_SIZE, LOAN_DAYS" in lines
        assert "Makefile: shelves, inventory" in lines
        assert "pyproject.toml: stamina>=25, respx>=0.22" in lines

    def test_says_what_stands_in_the_kit_now(self, state: State) -> None:
        lines = "\n".join(state.report.lines(Topic.KIT))
        assert "kit/settings/_service.py: allowed_origins (from app/core/config.py)" in lines
        assert "kit/kit.mk: lint (from Makefile)" in lines

    def test_names_each_rewritten_file(self, state: State) -> None:
        assert "app/api/desk.py" in state.report.lines(Topic.REWRITTEN)
        assert ".github/workflows/nightly.yml" in state.report.lines(Topic.REWRITTEN)

    def test_says_what_was_kept_and_why(self, state: State) -> None:
        lines = "\n".join(state.report.lines(Topic.KEPT))
        assert "tests/core/test_errors.py: the kit's, and you had edited it" in lines
        assert "tests/queue_tasks.py: tests/core/test_opening_hours.py needs it" in lines

    def test_says_where_a_test_replaces_something(self, state: State) -> None:
        lines = "\n".join(state.report.lines(Topic.LOOK))
        assert re.search(r"tests/test_desk\.py:\d+ replaces kit\.errors\.problem", lines)


class TestNames:
    """In code of the owner's own."""

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("from app.core.errors import Problem", "from kit.errors import Problem"),
            ("from ..core.errors import Problem as P", "from kit.errors import Problem as P"),
            ("from app.core.config import settings", "from app.core.config import settings"),
            ("from ..core.config import settings", "from ..core.config import settings"),
            ("from .pages import router", "from .pages import router"),
            ("from app.core import messages", "from kit import messages"),
            ("from app.core.health import router", "from kit.http import health_router as router"),
            ("from app.models.book import Book", "from app.models.book import Book"),
            ("from app.commands import mine", "from app.commands import mine"),
            ("from app.commands import doctor", "from kit.commands import doctor"),
            ("from devservices import lease", "from kit.devservices import lease"),
            ("import devservices", "from kit import devservices"),
            ("x = 'app.core.errors.Problem'", "x = 'kit.errors.Problem'"),
            ("x = 'app.tasks.heartbeat'", "x = 'app.tasks.heartbeat'"),
            ("x = 1  # see app/core/errors.py", "x = 1  # see kit/errors/_problems.py"),
            ("devservices = app.core.errors", "devservices = app.core.errors"),
        ],
    )
    def test_are_rewritten_where_they_moved(self, names: Names, before: str, after: str) -> None:
        assert Rewriter(names).rewrite(f"{before}\n", "app/api/own.py") == f"{after}\n"

    def test_of_one_statement_go_where_each_is(self, names: Names) -> None:
        code = "from app.core.config import LOOPBACK_HOSTS, settings  # noqa: F401\n"
        assert Rewriter(names).rewrite(code, "app/own.py").splitlines() == [
            "from kit.settings import LOOPBACK_HOSTS  # noqa: F401",
            "from app.core.config import settings  # noqa: F401",
        ]

    def test_of_a_short_file_s_module_are_imported_from_the_kit(self, names: Names) -> None:
        code = "from app.core import database\n\nX = database.engine, database.ReadOnlySession\n"
        new = Rewriter(names).rewrite(code, "app/own.py")
        assert "X = database.engine, ReadOnlySession\n" in new
        assert "from kit.database import ReadOnlySession\n" in new

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("python -m app.commands.doctor", "python -m kit.commands.doctor"),
            ("python -m app.commands.mine", "python -m app.commands.mine"),
            ("celery --app app.core.celery:celery_app", "celery --app app.core.celery:celery_app"),
            ("mypy app devservices tests", "mypy app kit tests"),
            ("COPY devservices/ devservices/", "COPY kit/devservices/ kit/devservices/"),
            ("cat ./app/core/errors.py", "cat ./kit/errors/_problems.py"),
        ],
    )
    def test_of_commands_and_paths_too(self, names: Names, before: str, after: str) -> None:
        assert Rewriter(names).rewrite(f"{before}\n", "x.yml") == f"{after}\n"

    def test_that_are_nowhere_any_more_are_reported(self, names: Names) -> None:
        notes: list[str] = []
        rewriter = Rewriter(names, lambda line, text: notes.append(f"{line} {text}"))
        rewriter.rewrite("from app.core.errors import gone\n", "app/own.py")
        assert notes == ["1 kit.errors._problems.gone is not there any more"]


LIFESPAN = """\
async def lifespan(_):
    begin()
    yield
    end()
"""
SHORT_LIFESPAN = """\
async def lifespan(_):
    async with kit_lifespan():
        yield
"""


def nowhere(*_: object) -> bool:
    """The kit has no such piece."""
    return False


class TestMerge:
    """Of a module whose text moved, leaving a short one."""

    def test_puts_steps_inside_the_kit_s(self) -> None:
        edited = LIFESPAN.replace("    yield\n", "    mine()\n    yield\n    done()\n")
        merged = merge_modules(LIFESPAN, edited, SHORT_LIFESPAN, nowhere)
        assert merged.text == (
            "async def lifespan(_):\n    async with kit_lifespan():\n"
            "        mine()\n        yield\n        done()\n"
        )

    def test_keeps_a_step_around_the_yield(self) -> None:
        edited = LIFESPAN.replace("    yield\n", "    async with mine():\n        yield\n")
        merged = merge_modules(LIFESPAN, edited, SHORT_LIFESPAN, nowhere)
        assert "        async with mine():\n            yield\n" in merged.text
        assert not merged.has_conflicts

    def test_of_a_step_around_what_moved_is_a_conflict(self) -> None:
        edited = (
            "async def lifespan(_):\n    async with mine():\n        begin()\n        yield\n"
            "        end()\n    done()\n"
        )
        merged = merge_modules(LIFESPAN, edited, SHORT_LIFESPAN, nowhere)
        assert merged.has_conflicts
        assert "async with mine()" in merged.text

    def test_of_a_change_that_has_no_place_is_a_conflict(self) -> None:
        edited = LIFESPAN.replace("begin()", "begin(1)").replace("end()", "end()  # last")
        merged = merge_modules(LIFESPAN, edited, SHORT_LIFESPAN, nowhere)
        assert "begin(1)" in merged.text
        assert "# last" in merged.text

    def test_reports_what_the_owner_had_taken_out(self) -> None:
        base = "def a(): ...\n\n\ndef b(): ...\n\n\ndef c(): ...\n"
        edited = "def a(): ...\n\n\ndef c(): ...\n\n\ndef mine(): ...\n"
        merged = merge_modules(base, edited, '"""Short."""\n\nfrom kit import a, c\n', nowhere)
        assert merged.taken_out == ["b"]
        assert merged.text.endswith("\n\n\ndef mine(): ...\n")

    def test_keeps_a_list_s_own_entries(self) -> None:
        base = 'plugins = [\n    "a",\n    "b",\n]\n'
        edited = 'plugins = [\n    "a",\n    # mine\n    "c",\n    "b",\n]\n'
        merged = merge_modules(base, edited, 'plugins = ["kit"]\n', lambda *_: True)
        assert "c" in merged.text

    def test_keeps_a_comment_whose_code_moved(self) -> None:
        base = '"""Long."""\n\nimport a\n\nx = a.x()\ny = a.y()\n'
        edited = base.replace("x = a.x()", "# why it is x\nx = a.x()")
        merged = merge_modules(base, edited, '"""Short."""\n\nfrom kit import x, y\n', nowhere)
        assert "# why it is x" in merged.text
        assert not merged.has_conflicts


class TestMakefile:
    BASE = ".PHONY: a b\n\n# Variables.\nx := 1\n\na: ## first\n\t@echo a\n\nb:\n\t@echo b\n"

    def test_own_parts_stay_and_changed_recipes_go_into_the_kit(self) -> None:
        edited = self.BASE.replace("@echo b", "@echo mine").replace(": a b", ": a b c")
        edited += "\n# Why.\nc: a ## third\n\t@echo $(x) $(gone)\n\nifdef y\nz := 1\nendif\n"
        merged = merge_makefiles(self.BASE, edited, "include kit/kit.mk\n", self.BASE)
        assert merged.own == (
            "include kit/kit.mk\n\n.PHONY: c\n\n# Why.\nc: a ## third\n\t@echo $(x) $(gone)\n\n"
            "ifdef y\nz := 1\nendif\n"
        )
        assert merged.kit == self.BASE.replace("@echo b", "@echo mine")
        assert merged.changed == ["b"]
        assert merged.look == ["your targets use $(gone), which no Makefile sets any more"]


class TestDependencies:
    BASE = '[project]\ndependencies = [\n    "a>=1",\n    "b[x]>=2", # why ]\n    "c>=3",\n]\n'
    NEW = '[project]\ndependencies = []\n\n[dependency-groups]\nkit = [\n    "a>=1",\n]\n'

    def test_of_the_owner_s_stand_apart(self) -> None:
        edited = self.BASE.replace('    "c', '    "mine>=1", # mine\n    "c').replace(
            "a>=1", "a>=9"
        )
        merged = merge_projects(self.BASE, edited, self.NEW)
        assert merged.text == self.NEW.replace(
            "dependencies = []", 'dependencies = [\n    "a>=9",\n    "mine>=1", # mine\n]'
        )
        assert merged.own == ["a>=9", "mine>=1"]

    def test_that_were_taken_out_are_reported(self) -> None:
        edited = self.BASE.replace('    "c>=3",\n', "")
        assert merge_projects(self.BASE, edited, self.NEW).removed == ["c"]


class TestDeletedFiles:
    def test_stay_deleted_and_what_needs_them_is_reported(self, crossing: Calculate) -> None:
        deleted = ("app/admin/audit.py", "app/api/pages.py", "AGENTS.md", "tests/test_flower.py")
        state = crossing(NEWEST, deleted=deleted)
        files = state.outcome()
        assert {"app/api/pages.py", "AGENTS.md", "tests/test_flower.py"} & files.keys() == set()
        assert "kit/admin/_audit.py" not in files
        lines = state.report.lines(Topic.LOOK)
        for path, user in (
            ("kit/admin/_audit", "kit/admin/__init__"),
            ("app/api/pages", "app/main"),
        ):
            said = f"{path}.py stays deleted, but {user}.py.* would import it"
            assert any(re.match(said, line) for line in lines)


def test_a_line_that_both_changed_is_a_conflict(crossing: Calculate) -> None:
    line = "# Lower bounds that the tests pass with (`uv sync --resolution lowest-direct`)."
    mine = Edit("pyproject.toml", instead(line, "# Bounds of ours."), "Bounds of ours")
    state = crossing(NEWEST, [mine])
    assert list(state.conflicts()) == ["pyproject.toml"]
    assert "Bounds of ours" in state.text("pyproject.toml")
    assert state.report.lines(Topic.CONFLICTS) == ["pyproject.toml"]


def test_a_conflict_of_one_move_is_no_conflict_of_markers_in_the_next(crossing: Calculate) -> None:
    """Where later releases changed the same lines again, what the owner wrote is there once."""
    edits = [
        Edit(".github/workflows/ci.yml", instead("make test-all", "make test"), "make test\n"),
        Edit("Dockerfile", instead("start-period=20s", "start-period=60s"), "=60s"),
        Edit("app/core/redis_pool.py", instead('"""', '"""Ours. '), "Ours. ", "kit/redis/_pool.py"),
    ]
    state = crossing(NEWEST, edits)
    conflicts = state.conflicts()
    assert set(conflicts) == {edit.place for edit in edits}
    for path, (base, mine, theirs) in conflicts.items():
        text, markers = state.text(path), ("<<<<<<< before", "=======\n", ">>>>>>> after")
        assert [text.count(marker) for marker in markers] == [1, 1, 1], path
        merged, _ = merge(base, mine, theirs)  # as `git checkout --merge` and tools for it do
        assert merged.decode() == text, path
    assert {*state.report.lines(Topic.CONFLICTS)} == set(conflicts)
    assert not any("no valid Python" in line for line in state.report.lines(Topic.LOOK))


def test_an_edit_that_is_no_python_is_merged_as_a_text(crossing: Calculate) -> None:
    state = crossing(NEWEST, [Edit("app/core/errors.py", at_end("\ndef broken(:\n"), "broken(")])
    assert "def broken(:" in state.text("kit/errors.py")
    assert any("no valid Python" in line for line in state.report.lines(Topic.LOOK))


def start(releases: Path, version: str, folder: Path) -> Path:
    """A committed project of a release."""
    run_copy(str(releases), folder, vcs_ref=f"v{version}", defaults=True, unsafe=True, quiet=True)
    commit_all(folder, "Start")
    return folder


def update(project: Path, version: str = WORKING_TREE) -> None:
    """What `copier update --trust --defaults` does."""
    run_update(
        project, vcs_ref=f"v{version}", defaults=True, overwrite=True, unsafe=True, quiet=True
    )


def unmerged(project: Path) -> list[str]:
    """Files that git lists as unmerged."""
    return git(project, "diff", "--name-only", "--relative", "--diff-filter=U").splitlines()


def with_statement(text: str, other: str, word: str) -> str:
    """A module with a statement of the owner's between two lines that another module has, too."""
    lines = text.split("\n")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.Return) and node.col_offset:
            at = node.lineno - 1
            if other.count("\n".join(lines[at - 1 : at + 1]) + "\n") == 1:
                mine = f"{' ' * node.col_offset}inner_{word} = 1"
                return "\n".join([*lines[:at], mine, *lines[at:]])
    return text


def with_function(text: str, word: str) -> str:
    """A module with a function of the owner's at its end, and an import for it."""
    code = f'\n\ndef {word}() -> Decimal:\n    """Ours."""\n    return Decimal(1)\n'
    return add_imports(text + code, ["from decimal import Decimal"])


class TestSeveralModulesThatBecameOne:
    """Inside of the kit, in a release after the move into it."""

    @pytest.mark.parametrize("move", [0, pytest.param(1, marks=pytest.mark.full)], ids=BEFORE)
    def test_have_the_edits_of_each(
        self, move: int, rendered: Callable[[str], Path], after: list[Files]
    ) -> None:
        there, moved = read_folder(rendered(BEFORE[move])), after[move + 1]
        paths = {old: new for old, new in MERGING[move].paths.items() if old in there}
        words = {path: f"of_ours_{number:02d}" for number, path in enumerate(paths)}
        edited, inner = dict(there), dict[str, str]()
        for path, word in words.items():
            before = there[path].decode()
            text = with_statement(before, moved[paths[path]].decode(), word)
            inner |= {path: f"inner_{word} = 1"} if text != before else {}
            edited[path] = with_function(text, word).encode()
        state = carried(BEFORE[move], there, edited, after[: move + 2])
        files = state.outcome()
        assert state.conflicts() == {}
        assert len(inner) > len(words) // 2
        for path, word in words.items():
            text = files[paths[path]].decode()
            assert f"def {word}() -> Decimal:" in text
            assert "from decimal import Decimal\n" in text
            assert inner.get(path, "") in text
        assert broken_imports(files) == []

    def test_show_a_line_that_both_changed(self, last: Files, after: list[Files]) -> None:
        path = "kit/devservices/_valkey.py"
        edited = {**last, path: last[path].replace(b"seconds=READY", b"seconds=2 * READY")}
        state = carried(BEFORE[-1], last, edited, after)
        assert list(state.conflicts()) == [place_now(path)]
        assert "seconds=2 * READY_SECONDS" in state.text(place_now(path))
        assert state.text(place_now(path)).count("return start_server(") == 2

    def test_without_edits_are_a_copy_s(self, last: Files, after: list[Files], new: Files) -> None:
        state = carried(BEFORE[-1], last, last, after)
        assert state.outcome() == {
            **{path: last[path] for path in last if is_owned(path)},
            **{path: new[path] for path in new if not is_owned(path)},
        }
        assert [state.report.lines(topic) for topic in Topic] == [[]] * len(Topic)

    def test_leave_the_owner_s_dependencies_as_they_are(
        self, last: Files, after: list[Files], new: Files
    ) -> None:
        path, mine = "pyproject.toml", b'dev = [{ include-group = "kit-dev" }, "pyyaml"]\n'
        edited = {**last, path: re.sub(rb"^dev = .*\n", mine, last[path], flags=re.MULTILINE)}
        state = carried(BEFORE[-1], last, edited, after)
        assert state.text(path) == re.sub(
            r"^dev = .*\n", mine.decode(), new[path].decode(), flags=re.MULTILINE
        )
        assert state.report.lines(Topic.SHORT) == []

    def test_hide_what_the_owner_put_beside_them(self, last: Files, after: list[Files]) -> None:
        state = carried(BEFORE[-1], last, {**last, "kit/live/own.py": b"X = 1\n"}, after)
        assert state.report.lines(Topic.LOOK) == [
            "kit/live/own.py is hidden by kit/live.py: move it elsewhere"
        ]

    def test_are_deleted_if_all_of_them_were(
        self, last: Files, after: list[Files], new: Files
    ) -> None:
        gone = {"kit/process/_name.py", *(x for x in last if x.startswith("kit/live/"))}
        edited = {path: content for path, content in last.items() if path not in gone}
        state = carried(BEFORE[-1], last, edited, after)
        assert "kit/live.py" not in state.outcome()
        assert state.outcome()["kit/process.py"] == new["kit/process.py"]
        lines = "\n".join(state.report.lines(Topic.LOOK))
        assert "you had deleted kit/process/_name.py; what it held is in kit/process.py" in lines
        assert "kit/live.py stays deleted" in lines

    @pytest.mark.parametrize(
        ("before", "now"),
        [
            ("from kit.http._finite import _decode", "from kit.http._routers import _decode"),
            ("from kit.errors._problems import Problem", "from kit.errors import Problem"),
            ("from kit.errors._causes import is_conflict", "from kit.causes import is_conflict"),
            ("from kit.errors import is_outage", "from kit.errors import is_outage"),
            ("from kit.process import _name", "from kit import process as _name"),
            ("from kit.process import this_process", "from kit.process import this_process"),
            ("import kit.process as p", "import kit.process as p"),
            ("x = 'kit.http._scalar.setup_api_docs'", "x = 'kit.http.setup_api_docs'"),
            ("x = 1  # kit/process/_name.py", "x = 1  # kit/process.py"),
            ("x = 'app/commands devservices'", "x = 'app/commands devservices'"),
        ],
    )
    def test_are_found_by_code_that_imports_them(self, new: Files, before: str, now: str) -> None:
        rewriter = Rewriter(Names(MERGING[-1], new))
        assert rewriter.rewrite(f"{before}\n", "app/api/own.py") == f"{now}\n"


def test_a_release_without_a_tag_is_found_by_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [table.version for table in TABLES]
    for version in versions[:-1]:
        commit_all(tmp_path, f"Release {version}")
    commit_all(tmp_path, "Later")
    ends = {"FROM": "0.4.0", "TO": WORKING_TREE}
    for end, version in ends.items():
        monkeypatch.setenv(f"VERSION_{end}", f"v{version}")
        monkeypatch.setenv(f"VERSION_PEP440_{end}", version)
    found = [(table.version, release) for table, release in route(str(tmp_path))]
    commits = git(tmp_path, "log", "--reverse", "--format=%H").split()
    assert found == list(zip(versions, [*commits[:-1], f"v{WORKING_TREE}"], strict=True))
    git(tmp_path, "tag", f"v{versions[-1]}")
    found = [(table.version, release) for table, release in route(str(tmp_path))]
    assert found[-2:] == [(versions[-1], f"v{versions[-1]}"), ("", f"v{WORKING_TREE}")]


@pytest.mark.usefixtures("fast_copier")
class TestUpdate:
    """As owners run it."""

    def test_keeps_edits_and_lists_what_conflicts(
        self, releases: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        project = start(releases, NEWEST, tmp_path / "project")
        apply(EDITS, project)
        edit(project / "pyproject.toml", "# Lower bounds that the tests", "# Bounds of ours")
        (project / "app/admin/audit.py").unlink()
        commit_all(project, "Work")
        before = git(project, "rev-parse", "HEAD")

        update(project)

        assert misplaced(files_of(project)) == {}
        assert unmerged(project) == ["pyproject.toml"]
        assert "<<<<<<< before updating\n" in (project / "pyproject.toml").read_text()
        assert git(project, "rev-parse", "HEAD") == before
        assert not (project / "kit/admin/_audit.py").exists()
        report = capfd.readouterr().out
        assert "Nothing is committed" in report
        assert "Conflicts, to settle before the commit" in report
        command = re.search(r"git (cat-file -p \w+) > kit/admin/_audit\.py", report)
        assert command is not None
        assert "audit_entry" in git(project, *command[1].split())

    @pytest.mark.full
    def test_from_the_oldest_release(self, releases: Path, tmp_path: Path, expected: Files) -> None:
        untouched = start(releases, OLDEST, tmp_path / "untouched")
        update(untouched)
        assert unmerged(untouched) == []
        assert files_of(untouched) == expected

        project = start(releases, OLDEST, tmp_path / "project")
        apply(EDITS, project)
        commit_all(project, "Work")
        update(project)
        assert unmerged(project) == []
        assert misplaced(files_of(project)) == {}
        assert broken_imports(files_of(project)) == []
        commit_all(project, "Update")
        update(project)
        assert git(project, "status", "--porcelain") == "", "a second update changes nothing"

    def test_across_the_newest_move_keeps_edits_of_the_kit(
        self, releases: Path, tmp_path: Path
    ) -> None:
        project = start(releases, BEFORE[-1], tmp_path / "project")
        edit(project / "kit/process/_name.py", "self.role = role", "self.role = role or OURS")
        edit(project / "app/main.py", '"""The', '"""Our')
        (project / "app/api/own.py").write_text(
            "from kit.errors._problems import Problem\n", encoding="utf-8"
        )
        (project / "templates/index.html").unlink()
        commit_all(project, "Work")
        update(project)
        assert unmerged(project) == []
        files = files_of(project)
        assert b"self.role = role or OURS" in files["kit/process.py"]
        assert files["app/api/own.py"] == b"from kit.errors import Problem\n"
        assert files["app/main.py"].startswith(b'"""Our')
        assert "templates/index.html" not in files
        assert [path for path in files if path.startswith("kit/process/")] == []

    @pytest.mark.full
    def test_release_by_release(self, releases: Path, tmp_path: Path) -> None:
        project = start(releases, OLDEST, tmp_path / "project")
        apply(EDITS, project)
        commit_all(project, "Work")
        for version in [*STARTS[1:], *BEFORE, WORKING_TREE]:
            update(project, version)
            settle(project)
            commit_all(project, f"Update to {version}")
        assert misplaced(files_of(project)) == {}
        assert broken_imports(files_of(project)) == []

    @pytest.mark.full
    def test_in_a_folder_of_a_larger_repository(self, releases: Path, tmp_path: Path) -> None:
        whole = tmp_path / "whole"
        (whole / "other").mkdir(parents=True)
        (whole / "other/app.py").write_text("import devservices\n", encoding="utf-8")
        commit_all(whole, "Other")
        project = whole / "service"
        run_copy(str(releases), project, vcs_ref=f"v{NEWEST}", defaults=True, quiet=True)
        apply(EDITS, project)
        commit_all(whole, "Service")
        update(project)
        assert misplaced(files_of(project)) == {}
        assert unmerged(whole) == []
        assert (whole / "other/app.py").read_text(encoding="utf-8") == "import devservices\n"


def files_of(project: Path) -> Files:
    """Files of a project, without those of git and of Copier."""
    return {
        path: content
        for path, content in read_folder(project).items()
        if not path.startswith(".git/") and path != ".copier-answers.yml"
    }


def settle(project: Path) -> None:
    """Take the owner's side of each conflict."""
    for path in unmerged(project):
        text = (project / path).read_text(encoding="utf-8")
        text = re.sub(
            r"^<<<<<<< .*?\n(.*?)^=======\n.*?^>>>>>>> .*?\n",
            lambda found: found[1],
            text,
            flags=re.MULTILINE | re.DOTALL,
        )
        (project / path).write_text(text, encoding="utf-8")


class TestFailure:
    def test_says_how_to_undo_and_changes_nothing(self, tmp_path: Path) -> None:
        project = tmp_path / "project"
        project.mkdir()
        (project / "app.py").write_text("x = 1\n", encoding="utf-8")
        (project / "answers.yml").write_text("{}\n", encoding="utf-8")
        commit_all(project, "Start")
        before = tree(project)
        done = subprocess.run(
            [sys.executable, REPOSITORY / "hooks/moves", tmp_path / "nowhere", "answers.yml"],
            cwd=project,
            check=False,
            capture_output=True,
            text=True,
            env={
                "VERSION_FROM": "v0.4.0",
                "VERSION_TO": "v0.6.0",
                "VERSION_PEP440_FROM": "0.4.0",
                "VERSION_PEP440_TO": "0.6.0",
                "PATH": "/usr/bin:/bin",
            },
        )
        assert done.returncode == 1
        assert "git reset --hard && git clean -fd" in done.stderr
        assert tree(project) == before
