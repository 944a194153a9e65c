"""The documentation: it builds, its links lead somewhere, and what it names is there."""

import ast
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests import doctor_page
from tests.combinations import catalogue, combinations
from tests.conftest import copy_template
from tests.documents import DOCUMENTS, OF_THE_SERVICE, PAGES, commands_of, name_of, prose_of
from tests.named_tests import RENDERED, named_tests
from tests.repositories import REPOSITORY
from tests.settings_page import PAGE, settings, tables, written_table
from tests.trees import covering_trees, trees


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(REPOSITORY / "mkdocs.yml", folder)
    shutil.copytree(REPOSITORY / "docs", folder / "docs")
    done = subprocess.run(
        ["zensical", "build", "--strict", "--clean"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def project(template_without_git: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service with all defaults."""
    return copy_template(template_without_git, tmp_path_factory.mktemp("project") / "service")


class TestSite:
    """The site builds, complains of nothing, and calls nobody."""

    def test_has_every_page(self, site: Path) -> None:
        built = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}
        assert built - {Path("404.md")} == {path.relative_to(REPOSITORY / "docs") for path in PAGES}

    def test_loads_nothing_from_elsewhere(self, site: Path) -> None:
        loads = re.compile(
            r'<(?:script|img|iframe|link)\b[^>]*?(?:src|href)="((?:https?:)?//[^"]+)"'
        )
        found = {
            url
            for page in site.rglob("*.html")
            for url in loads.findall(page.read_text(encoding="utf-8"))
        }
        assert found == set()

    def test_lists_every_page(self) -> None:
        listed = re.findall(r": (\S+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), re.MULTILINE)
        assert sorted(listed) == sorted(
            path.relative_to(REPOSITORY / "docs").as_posix() for path in PAGES
        )


@pytest.mark.parametrize(
    "path", [*REPOSITORY.glob("*.md"), REPOSITORY / "hooks" / "README.md", *PAGES], ids=name_of
)
def test_links_lead_somewhere(path: Path) -> None:
    """Pages, headings and pictures; addresses of the world are left to their readers."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(path)):
        url = urlsplit(target)
        if url.scheme:
            assert url.scheme == "https", target
            continue
        file = path.parent / unquote(url.path) if url.path else path
        assert file.exists(), target
        if url.fragment:
            assert url.fragment in headings_of(file), target


def headings_of(path: Path) -> set[str]:
    """The anchors of a page's headings."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose_of(path), re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", heading.lower()).strip()
        found.add(re.sub(r"[\s-]+", "-", plain))
    return found


def test_pictures_are_small_and_used() -> None:
    used = "".join(path.read_text(encoding="utf-8") for path in [*PAGES, REPOSITORY / "README.md"])
    used += (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    for picture in (REPOSITORY / "docs" / "images").iterdir():
        assert picture.stat().st_size <= 200_000, picture.name
        assert picture.name in used, f"{picture.name} is shown nowhere"


def test_every_extension_of_the_catalogue_has_a_page() -> None:
    pages = {path.stem for path in (REPOSITORY / "docs" / "extensions").glob("*.md")}
    assert pages == set(catalogue())


class TestNames:
    """Targets, files, modules and settings that the documents mention exist."""

    @pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
    def test_make_targets(self, project: Path, path: Path) -> None:
        makefiles = [project / "Makefile", project / "kit" / "kit.mk"]
        makefiles += [REPOSITORY / "Makefile"] if path == REPOSITORY / "README.md" else []
        text = "\n".join(makefile.read_text(encoding="utf-8") for makefile in makefiles)
        targets = set(re.findall(r"^([a-z][a-z-]*)(?: [a-z -]+)?:", text, re.MULTILINE))
        targets |= {"lint", "typecheck", "docs"} if path.name == "README.md" else set()
        named = re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8"))
        named += [
            word
            for command in commands_of(path)
            if command.startswith("make ")
            for word in re.sub(r'\w+="[^"]*"|\w+=\S+', "", command).split()[1:]
        ]
        assert sorted(set(named) - targets) == []

    @pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
    def test_files_and_modules(self, project: Path, path: Path) -> None:
        extension = path.parent.name if path.name == "README.md" else path.stem
        of_the_template = [] if path in OF_THE_SERVICE else [REPOSITORY / "template"]
        places = [
            project,
            *of_the_template,
            project / "app" / "extensions" / "_example",
            REPOSITORY,
            REPOSITORY / "extensions_catalog" / extension,
        ]
        assert [name for name in mentioned_paths(path) if not is_there(places, name)] == []

    @pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
    def test_settings(self, path: Path) -> None:
        words = re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b", prose_of(path))
        assert sorted(set(words) - set(settings()) - extension_settings() - NO_SETTINGS) == []

    def test_modules_of_commands_that_files_run(self, project: Path) -> None:
        for file in ("kit/kit.mk", "Dockerfile", "docker-compose.yml"):
            text = (project / file).read_text(encoding="utf-8")
            modules = re.findall(r"-m,? \"?((?:app|kit)\.[\w.]+)", text)
            modules += re.findall(r'"-m", "((?:app|kit)\.[\w.]+)"', text)
            assert modules, file
            for module in modules:
                assert (project / (module.replace(".", "/") + ".py")).is_file(), (file, module)


def extension_settings() -> set[str]:
    """The settings of every extension of the catalogue, which `.env.example` has when chosen."""
    names = set()
    for path in (REPOSITORY / "extensions_catalog").glob("*/settings.py"):
        code = path.read_text(encoding="utf-8")
        prefix = re.findall(r'env_prefix="(\w+)"', code)
        fields = re.findall(r"^    ([A-Z][A-Z0-9_]+): .*=", code, re.MULTILINE)
        assert len(prefix) == 1, path
        assert fields, path
        names |= {prefix[0] + field for field in fields}
    return names


NO_SETTINGS = {
    "RESOURCE_LISTS",  # of a test of this repository
    "BASE_DIR",
    "CONTAINER_MEMORY",  # of the compose file
    "EVERY_MESSAGE",
    "TEMPLATES_DIR",
    "FORWARDED_ALLOW_IPS",  # uvicorn's
    "PG_BINDIR",  # of kit/devservices
    "UV_OFFLINE",  # uv's
    "XDG_CACHE_HOME",  # of all programs
    "SYNC_DATABASE_URL",  # a property
    # OpenTelemetry's
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_METRICS_EXPORTER",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_PROPAGATORS",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SDK_DISABLED",
    "OTEL_SEMCONV_STABILITY_OPT_IN",
    "OTEL_TRACES_SAMPLER",
}
WRITTEN_ON_THE_WAY = ("app/models/order.py", "app/api/orders.py", "app/tasks/packing.py")
"""Files that Getting started has its reader write."""

NO_FILES = {
    ".env",
    ".data/",
    ".tools/",
    "uv.lock",
    "demo/",
    ".data/services.json",
    "credentials.json",
    "app/message_handlers.py",  # where a service's own handlers go
    "docker-compose.override.yml",  # their own services
    "tests/api/test_tasks.py",
    "site/",
    "<name>/page.html",
}


def mentioned_paths(path: Path) -> Iterator[str]:
    """Inline code that reads like a file, a folder or a module of ours."""
    for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose_of(path)):
        is_path = re.fullmatch(r"\.?[\w<>…-]+(?:[./][\w<>…*.-]+)*/?", code)
        is_file = code.endswith(("/", ".py", ".md", ".toml", ".yml", ".html", ".ini", ".txt"))
        is_module = re.fullmatch(r"(?:app|kit)(?:\.\w+)+", code)
        if is_path and (is_file or is_module) and code not in NO_FILES:
            yield code


def is_there(places: Sequence[Path], name: str) -> bool:
    """Whether it is part of a project, which comes first, of an extension or of this repository."""
    project = places[0]
    if name in WRITTEN_ON_THE_WAY or name.startswith("app/models/order"):
        return True
    if re.match(r"(?:app|kit)\.\w", name) and not name.endswith(".py"):
        name = name.replace(".", "/")
        return (project / name).is_dir() or (project / f"{name}.py").is_file()
    pattern = re.sub(r"<name>|…", "*", name).rstrip("/")
    if any(next(place.glob(pattern), None) for place in places):
        return True
    return "/" not in name and next(project.rglob(name), None) is not None


class TestExamples:
    """What examples and sentences take from the kit is there, under the names that they use."""

    @pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
    def test_imports(self, path: Path) -> None:
        imported = [
            (str(node.module).removeprefix("kit."), alias.name)
            for node in nodes_of_examples(path)
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("kit.")
            for alias in node.names
        ]
        assert [each for each in imported if each[1] not in faces().get(each[0], {})] == []

    @pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
    def test_arguments(self, path: Path) -> None:
        unknown = [
            f"{node.func.id}({keyword.arg}=…)"
            for node in nodes_of_examples(path)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            for taken in [faces_together().get(node.func.id)]
            for keyword in node.keywords
            if taken and keyword.arg not in taken
        ]
        assert unknown == []

    @pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
    def test_names_in_sentences(self, path: Path) -> None:
        """As in "`stream_rows` of `kit.database`", also several before a room."""
        names = r"((?:`\w+(?:\([^`]*\))?`(?:,\s+|\s+and\s+)?)+)"
        sentence = rf"{names}[^`.;|]{{0,30}}\b(?:of|in|from)\s+`kit\.(\w+)`"
        for named, room in re.findall(sentence, prose_of(path)):
            for name in re.findall(r"`(\w+)", named):
                assert name in faces()[room], f"kit.{room} has no {name}"

    def test_they_are_looked_at(self) -> None:
        """None of the three has stopped to find anything."""
        nodes = [node for path in DOCUMENTS for node in nodes_of_examples(path)]
        assert len([node for node in nodes if isinstance(node, ast.ImportFrom)]) > 50
        assert {"lease", "days"} <= faces_together()["Outbox"] | faces_together()["delete_old"]
        assert "write_rows" in faces()["database"]


def nodes_of_examples(path: Path) -> Iterator[ast.AST]:
    """The syntax of a document's Python, which has to be Python."""
    text = path.read_text(encoding="utf-8")
    for indented in re.findall(r"^ *```python[^\n]*\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        yield from ast.walk(ast.parse(textwrap.dedent(indented)))


@cache
def faces() -> dict[str, dict[str, set[str]]]:
    """What each room of the kit offers, and the arguments of each function and class there."""
    kit = REPOSITORY / "template" / "kit"
    found = {}
    for face in (*kit.glob("*.py"), *kit.glob("*/__init__.py")):
        room = face.parent.name if face.name == "__init__.py" else face.stem
        modules = [face, *face.parent.glob("_*.py")] if face.name == "__init__.py" else [face]
        defined: dict[str, set[str]] = {}
        offered: set[str] = set()
        for module in modules:
            for node in ast.parse(module.read_text(encoding="utf-8")).body:
                names, arguments = names_made_by(node), arguments_of(node)
                defined |= dict.fromkeys(names, arguments) if arguments else {}
                offered |= names if module == face else set()
        found[room] = {name: defined.get(name, set()) for name in offered}
    return found


@cache
def faces_together() -> dict[str, set[str]]:
    """The arguments of what any room offers, where they are known."""
    together: dict[str, set[str]] = {}
    for offered in faces().values():
        for name, arguments in offered.items():
            together[name] = together.get(name, set()) | arguments
    return together


def names_made_by(node: ast.stmt) -> set[str]:
    """The names that a statement of a module makes."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.ImportFrom():
            return {alias.asname or alias.name for alias in node.names}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def arguments_of(node: ast.stmt) -> set[str]:
    """The arguments of a function, or the fields of a class; none where it takes any."""
    match node:
        case ast.FunctionDef(args=args) | ast.AsyncFunctionDef(args=args):
            return set() if args.kwarg else {each.arg for each in (*args.args, *args.kwonlyargs)}
        case ast.ClassDef(body=body):
            made = {
                name
                for each in body
                if isinstance(each, ast.AnnAssign)
                for name in names_made_by(each)
            }
            takes = [arguments_of(each) for each in body if getattr(each, "name", "") == "__init__"]
            return takes[0] if takes else made
    return set()


class TestSettingsPages:
    """Pages list the settings as `.env.example` does, which the service's tests hold."""

    @pytest.mark.parametrize("page", tables(), ids=name_of)
    def test_table(self, page: Path) -> None:
        assert written_table(page) == tables()[page], "run python -m tests.settings_page"

    def test_every_setting_is_in_them(self) -> None:
        assert len(settings()) > 40
        assert "| `POSTGRES_PASSWORD` |" in tables()[PAGE]


def test_fixtures_that_the_guide_names_exist() -> None:
    guide = (REPOSITORY / "template" / "tests" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", guide, re.MULTILINE)
    conftest = (REPOSITORY / "template" / "tests" / "conftest.py").read_text(encoding="utf-8")
    own = re.findall(r"@pytest\.fixture[^\n]*\n(?:async )?def (\w+)", conftest)
    kit = REPOSITORY / "template" / "kit" / "testing"
    code = "".join(path.read_text(encoding="utf-8") for path in kit.glob("_*.py"))
    lent = re.findall(r"@pytest\.fixture[^\n]*\n(?:async )?def (\w+)", code)
    plugin = (kit / "fixtures.py").read_text(encoding="utf-8")
    assert len(rows) >= 6
    assert set(rows) <= {*own, *(name for name in lent if re.search(rf"\b{name}\b", plugin))}


def test_its_test_of_who_calls_is_among_what_owners_add() -> None:
    """`tests/test_owners_corpus.py` runs it."""
    guide = (REPOSITORY / "template" / "tests" / "README.md").read_text(encoding="utf-8")
    test = REPOSITORY / "tests" / "owners" / "user_rows" / "tests" / "api" / "test_wishes.py"
    assert f"```python\n{test.read_text(encoding='utf-8')}```\n" in guide


def test_the_factory_that_is_shown_is_that_of_the_example() -> None:
    page = (REPOSITORY / "docs" / "stack" / "development.md").read_text(encoding="utf-8")
    factory = REPOSITORY / "extensions_catalog" / "_example" / "tests" / "factories" / "note.py"
    assert f"```python\n{factory.read_text(encoding='utf-8')}```\n" in page


def test_a_restore_ends_each_outbox_of_the_catalogue() -> None:
    page = (REPOSITORY / "docs" / "stack" / "deployment.md").read_text(encoding="utf-8")
    ended = dict(re.findall(r"UPDATE (\w+) SET state = (.*);", page))
    outboxes = set()
    for models in (REPOSITORY / "extensions_catalog").glob("*/models.py"):
        text = models.read_text(encoding="utf-8")
        parts = re.split(r'__tablename__ = "(\w+)"', text)
        for name, rest in zip(parts[1::2], parts[2::2], strict=True):
            if "due_index()" in rest or "DUE_COLUMN" in rest:
                outboxes.add(name)
                for state in re.findall(r"'(\w+)'", ended.get(name, "").replace("'restored'", "")):
                    assert f'= "{state}"' in text, f"{name} has no state {state}"
    assert outboxes == ended.keys()


def test_checks_of_the_doctor() -> None:
    assert doctor_page.written_table() == doctor_page.table(), "run python -m tests.doctor_page"


def test_figures_that_can_be_counted() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    rendered = len([name for name in named_tests() if name.startswith(RENDERED)])
    assert f"each rendered and checked | {len(combinations()):,} |" in text
    tested = f"of which {len(covering_trees())} are linted, typed and tested in CI"
    assert f"{tested} | {len(trees())} |" in text
    drawing = (REPOSITORY / "docs" / "images" / "combinations.svg").read_text(encoding="utf-8")
    assert f">{len(combinations()):,} combinations<" in drawing
    assert f">{len(trees())} distinct trees<" in drawing
    stated = re.search(r"^\| test functions .* over (\d+) \|$", text, re.MULTILINE)
    assert stated
    assert int(stated[1]) < rendered
