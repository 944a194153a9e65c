"""`copier update` from every released version to the working tree, with a user's work in it.

Each is updated with all extensions; the oldest, the newest and those on both sides of the move into
rooms also with none. The answers besides are a set in which every two values meet, spread over the
newest release and those on both sides of the move. What a version did not ask,
or did not know as an answer, is chosen in the same update.
"""

import ast
import hashlib
import json
import re
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from copier import run_copy, run_update
from packaging.version import Version

from tests.combinations import (
    Answers,
    catalogue,
    configuration,
    covering_set_with,
    identifier,
)
from tests.conftest import copy_template
from tests.fast_copier import MEMORY
from tests.merged_tree import read_tree
from tests.releases import clone_with_releases, released_versions
from tests.repositories import REPOSITORY, WORKING_TREE, commit_all, edit, git, tree
from tests.service import Service, cache_of_uv
from tests.test_extension_life import SHOP, LivingService
from tests.test_update import run_hook

OLDEST, *_, NEWEST = released_versions()
BEFORE_ROOMS = "0.4.0"
MADE_OWNED = "0.5.0"
"""The release since which updates leave the owner's files alone."""
SIDES_OF_THE_MOVE = [OLDEST, BEFORE_ROOMS, MADE_OWNED, NEWEST]
MEETS_OWNER = "tests app/extensions kit/tests/migrations"
"""The tests that meet what the owner has; the kit is that of a copy, whose tests run elsewhere."""
ALL_EXTENSIONS: Answers = {"extensions": catalogue()}
BETWEEN = {
    version: [] if version in {OLDEST, NEWEST} else [pytest.mark.full]
    for version in released_versions()
}
"""Releases between the oldest and the newest take their turn with CI=true alone."""
ROWS = REPOSITORY / "tests" / "in_project" / "rows_in_every_table.py"
NONE = pytest.param({}, id="defaults")
ALL = pytest.param(ALL_EXTENSIONS, id="all-extensions", marks=pytest.mark.full)
NONE_AND_ALL_ANSWERS: list[Answers] = [{}, ALL_EXTENSIONS]
RELEASES_AND_ANSWERS = [
    *((version, NONE) for version in SIDES_OF_THE_MOVE),
    *((version, ALL) for version in released_versions()),
    *(
        (version, pytest.param(answers, id=identifier(answers), marks=pytest.mark.full))
        for version, answers in covering_set_with([BEFORE_ROOMS, MADE_OWNED, NEWEST])
    ),
]
"""In the covering set every two answers meet, and each of them meets each of its releases."""

pytestmark = pytest.mark.usefixtures("fast_copier")


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with all its releases."""
    return clone_with_releases(tmp_path_factory.mktemp("releases") / "groundwork")


@pytest.fixture
def project(version: str, releases: Path, tmp_path: Path, answers: Answers) -> Path:
    """A committed project of a released version."""
    return start(releases, version, answers, tmp_path / "project")


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In memory, as Copier's own folders then are: an update writes thousands of small files."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def start(releases: Path, version: str, answers: Answers, folder: Path) -> Path:
    """A committed project of a release, with those of the answers that it knows."""
    known = known_to(version, answers)
    made = releases.parent / f"{version}-{hashlib.sha256(json.dumps(known).encode()).hexdigest()}"
    if not made.exists():
        run_copy(
            str(releases),
            made,
            data=known,
            vcs_ref=f"v{version}",
            defaults=True,
            unsafe=False,
            quiet=True,
        )
        commit_all(made, "Start")
    return Path(shutil.copytree(made, folder, symlinks=True))


def known_to(version: str, answers: Answers) -> Answers:
    """Those of the answers that a version could be given."""
    known = {
        name: value
        for name, value in answers.items()
        if name in configuration_of(version)
        and name != "extensions"
        and offered_by(version, name, value)
    }
    offered = configuration_of(version)["extension_catalogue"]["default"]
    extensions = [name for name in answers.get("extensions", []) if name in offered]
    return known | ({"extensions": extensions} if extensions else {})


def offered_by(version: str, name: str, value: object) -> bool:
    """Whether a version renders a value: one of a question's choices, where it has any.

    Before 0.7.0 an author with a character beyond U+FFFF could not be rendered.
    """
    if name == "author" and Version(version) < Version("0.7.0"):
        return max(str(value), default="") <= "\uffff"
    choices = configuration_of(version)[name].get("choices") or [value]
    return value in (choices.values() if isinstance(choices, dict) else choices)


@cache
def configuration_of(version: str) -> dict[str, Any]:
    """The copier.yml of a version."""
    text = git(REPOSITORY, "show", f"{released_versions()[version]}:copier.yml")
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def update(project: Path, answers: Answers) -> None:
    """Update, and choose what the release before could not be asked for."""
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    missing = {name: value for name, value in answers.items() if recorded.get(name) != value}
    run_update(
        project,
        data=missing,
        defaults=True,
        overwrite=True,
        unsafe=needs_trust(recorded["_commit"]),
        quiet=True,
    )
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert recorded["_commit"] == f"v{WORKING_TREE}"
    assert {name: recorded.get(name) for name in answers} == answers


def needs_trust(release: str) -> bool:
    """Whether an update from a release crosses a version that a script of the template is for."""
    migrated = [Version(each["version"]) for each in configuration()["_migrations"]]
    return Version(release) < max(migrated)


def conflicts(project: Path) -> list[str]:
    """Files that git lists as unmerged, and rejected patches."""
    unmerged = git(project, "diff", "--name-only", "--diff-filter=U").splitlines()
    return unmerged + [str(path) for path in project.rglob("*.rej")]


@pytest.mark.parametrize("answers", [NONE, ALL])
@pytest.mark.parametrize(
    "version",
    [OLDEST, NEWEST],
)
def test_where_nothing_was_changed_it_gives_what_a_fresh_copy_would(
    version: str, releases: Path, project: Path, tmp_path: Path, answers: Answers
) -> None:
    """As below, where those who changed something start from every release."""
    update(project, answers)
    assert conflicts(project) == []
    fresh = fresh_copy(version, releases, tmp_path, answers)
    # The readme belongs to the project's owner from the first day.
    assert without(tree(project), "README.md") == without(tree(fresh), "README.md")


def fresh_copy(version: str, releases: Path, folder: Path, answers: Answers) -> Path:
    """A committed copy, whose owner's files are those of the release that wrote them last.

    That is the one which a service began with, or the one that made them the owner's.
    """
    fresh = copy_template(releases, folder / "fresh", **answers)
    wrote = max(version, MADE_OWNED, key=Version)
    made = start(releases, wrote, answers, folder / "made")
    for owned in configuration()["_skip_if_exists"]:
        source, target = (root / owned.strip("/") for root in (made, fresh))
        if source.is_dir():
            shutil.rmtree(target)
        elif not source.exists():  # a file for new services, which no update brings
            target.unlink()
            continue
        source.replace(target)
    commit_all(fresh, "Start")
    return fresh


def without(files: dict[str, str], path: str) -> dict[str, str]:
    return {name: content for name, content in files.items() if name != path}


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def change_a_setting(project: Path) -> None:
    edit(project / "pyproject.toml", "[tool.service]\n", '[tool.service]\nlog_level = "DEBUG"\n')


def edit_core(project: Path) -> None:
    edit(project / "app/main.py", '"""The service:', '"""Our service:')
    append(project / "app/core/task_context.py", "\n\nOURS = True\n")


def extensions_of(project: Path) -> list[str]:
    """Those of the catalogue that a project has chosen."""
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    return list(recorded.get("extensions") or [])


def delete_files(project: Path) -> None:
    (project / ".editorconfig").unlink()
    (project / "AGENTS.md").unlink()
    (project / "templates/error.html").unlink()


def add_files(project: Path) -> None:
    own = project / "app/extensions/loyalty"
    own.mkdir()
    (own / "__init__.py").write_text('"""Points."""\n', encoding="utf-8")
    (project / "alembic/versions/1f0c5a_ours.py").write_text('"""Ours."""\n', encoding="utf-8")


def write_the_readme(project: Path) -> None:
    (project / "README.md").write_text("# Ours\n", encoding="utf-8")


def edit_extensions(project: Path, names: list[str]) -> None:
    for name in ["_example", *names]:
        append(project / "app/extensions" / name / "settings.py", "\n\nOURS = True\n")


ENABLED = "enabled_extensions = [\n"
"""A line of its own for each since 0.2.0: before, a release that has more conflicts, once."""


def work(project: Path, extensions: list[str], *, enable: bool = True) -> None:
    """What its owner did, to these extensions of the catalogue among others.

    Args:
        project: where; it is committed.
        extensions: of the catalogue, which are edited.
        enable: whether the extension of its owner's own is enabled.
    """
    change_a_setting(project)
    edit_core(project)
    edit_extensions(project, extensions)
    delete_files(project)
    add_files(project)
    if enable:
        edit(project / "pyproject.toml", ENABLED, f'{ENABLED}    "loyalty",\n')
    write_the_readme(project)
    commit_all(project, "Work")


@pytest.mark.parametrize(
    ("version", "answers"),
    [
        pytest.param(
            version, *each.values, id=f"{version}-{each.id}", marks=[*each.marks, *BETWEEN[version]]
        )
        for version, each in RELEASES_AND_ANSWERS
    ],
)
def test_work_stays_beside_what_the_release_brings(  # noqa: PLR0917 (fixtures)
    version: str,
    releases: Path,
    project: Path,
    tmp_path: Path,
    answers: Answers,
    servers: list[socket.socket],
) -> None:
    extensions = extensions_of(project)
    enable = ENABLED in (project / "pyproject.toml").read_text(encoding="utf-8")
    work(project, extensions, enable=enable)
    name_servers(project, servers)

    update(project, answers)

    assert conflicts(project) == []
    # What a fresh copy would hold with the same work done to it: all else is as if never copied
    # from an older release.
    fresh = fresh_copy(version, releases, tmp_path, answers)
    work(fresh, extensions, enable=enable)
    assert tree(project) == tree(fresh)
    if answers in NONE_AND_ALL_ANSWERS:
        commit_all(project, "Update")
        update(project, answers)
        assert git(project, "status", "--porcelain") == "", "a second update changes nothing"
    assert not any(was_called(server) for server in servers), "an update asks no server"


@pytest.mark.full
def test_a_fast_update_with_a_script_gives_the_same(releases: Path, tmp_path: Path) -> None:
    """As Copier's own command, by which the script then renders the releases too."""
    before = max(filter(needs_trust, released_versions()), key=Version)
    projects = [start(releases, before, {}, tmp_path / name) for name in ("fast", "usual")]
    for project in projects:
        work(project, [])
    update(projects[0], {})
    command = ["copier", "update", "--quiet", "--defaults", "--trust"]
    subprocess.run(command, cwd=projects[1], check=True)
    assert git(projects[0], "status", "--porcelain") == git(projects[1], "status", "--porcelain")
    assert tree(projects[0]) == tree(projects[1])


@pytest.fixture
def servers() -> Iterator[list[socket.socket]]:
    """Where a database and Redis would be, listening."""
    address = ("127.0.0.1", 0)
    with socket.create_server(address) as postgres, socket.create_server(address) as redis:
        yield [postgres, redis]


def name_servers(project: Path, servers: list[socket.socket]) -> None:
    """Have the project's settings lead to them, as those of a service in use do."""
    postgres, redis = (server.getsockname()[1] for server in servers)
    (project / ".env").write_text(
        f"DATABASE_URL=postgresql://us:secret@127.0.0.1:{postgres}/ours\n"
        f"REDIS_URL=redis://:secret@127.0.0.1:{redis}/0\n",
        encoding="utf-8",
    )


def was_called(server: socket.socket) -> bool:
    """Whether anybody has connected."""
    return bool(select.select([server], [], [], 0)[0])


@pytest.mark.full
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_a_line_that_both_changed_is_a_conflict_that_no_hook_lets_pass(
    version: str, releases: Path, tmp_path: Path
) -> None:
    """In every file of text that has changed since, and in none besides.

    Where a script of the template moves code and rewrites names, fewer lines conflict: then each
    edit is somewhere, and what conflicts shows both sides.
    """
    untouched = start(releases, version, ALL_EXTENSIONS, tmp_path / "untouched")
    update(untouched, ALL_EXTENSIONS)
    is_moved = needs_trust(version)
    changed = lines_changed(untouched, "MD" if is_moved else "M")
    # With a conflict in its configuration pre-commit refuses every commit, and lists no file.
    changed.pop(".pre-commit-config.yaml", None)
    project = start(releases, version, ALL_EXTENSIONS, tmp_path / "project")
    marks = {path: f"# ours {number}." for number, path in enumerate(changed)}
    for path, line in changed.items():
        edit(project / path, f"\n{line}\n", f"\n{line} {marks[path]}\n")
    commit_all(project, "Work")

    update(project, ALL_EXTENSIONS)

    found = conflicts(project)
    if is_moved:
        everything = b"".join(read_tree(project).values())
        assert [path for path, mark in marks.items() if mark.encode() not in everything] == []
    else:
        assert set(found) == set(changed)
    for path in found:
        text = (project / path).read_text(encoding="utf-8")
        ours, theirs = re.findall(
            r"^<<<<<<< before updating\n(.*?)^=======\n(.*?)^>>>>>>> after updating$",
            text,
            re.MULTILINE | re.DOTALL,
        )[0]
        assert "# ours " in ours
        assert theirs != ours
    git(project, "add", "--all")
    done = run_hook(project, "conflict-markers")
    assert done.returncode == bool(found)  # none has, right after a release
    assert [path for path in found if path not in done.stdout] == []


def lines_changed(project: Path, how: str) -> dict[str, str]:
    """The first line that an update took away from each file, which stands there once.

    Args:
        project: with the update, not committed.
        how: M for files that it changed, MD for those too that it took away.
    """
    found: dict[str, str] = {}
    for path in git(project, "diff", "--name-only", f"--diff-filter={how}").splitlines():
        if path in {".copier-answers.yml", "README.md"}:
            continue  # Copier's own, and its owner's
        before = git(project, "show", f"HEAD:{path}").splitlines()
        difference = git(project, "diff", "--unified=0", "--", path).splitlines()
        removed = [line[1:] for line in difference if re.match(r"-(?!--)", line)]
        once = [line for line in removed if before[1:].count(line) == 1 and line.strip()]
        if "D" in how and path.endswith(".py"):
            imports = lines_of_imports(before)
            once = [line for line in once if line not in imports]
        if once:
            found[path] = once[0]
    return found


def lines_of_imports(lines: list[str]) -> set[str]:
    """Those of a module's imports, which a move writes anew, and the comments above them."""
    found: set[str] = set()
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            first = node.lineno - 1
            while first and lines[first - 1].startswith("#"):
                first -= 1
            found |= set(lines[first : node.end_lineno])
    return found


class TestAServiceInUse:
    """With its own environment, tables and rows, followed with the commands that its user has."""

    @pytest.fixture
    def service(self, project: Path) -> LivingService:
        """A service of the old release: edited, with an extension and a migration of their own."""
        environment = {
            "UV_CACHE_DIR": cache_of_uv(),
            "UV_PROJECT_ENVIRONMENT": str(project / ".venv"),
        }
        service = LivingService(project, environment)
        service.make("setup")
        change_a_setting(project)
        edit_core(project)
        edit_extensions(project, extensions_of(project))
        if ENABLED in (project / "pyproject.toml").read_text(encoding="utf-8"):
            service.make("extension", "name=loyalty")
        (project / "app/models/shop.py").write_text(SHOP, encoding="utf-8")
        service.make("db-upgrade")
        service.make("db-migrate", "message=add shops")
        service.make("db-upgrade")
        commit_all(project, "Shops")
        return service

    @pytest.fixture
    def project(self, version: str, releases: Path, service_folder: Path, answers: Answers) -> Path:
        name = f"from-{version}-{len(answers)}"
        return start(releases, version, answers, service_folder / name)

    @pytest.mark.full
    @pytest.mark.parametrize(
        ("version", "answers"),
        [(OLDEST, ALL_EXTENSIONS), (NEWEST, {}), (NEWEST, ALL_EXTENSIONS)],
        ids=["oldest-chooses-all", "newest-has-none", "newest-has-all"],
    )
    def test_keeps_its_rows_and_has_one_head_a_branch(
        self, service: LivingService, version: str, answers: Answers
    ) -> None:
        before = rows(service, "fill")
        assert [table for table, kept in before.items() if not kept] == []
        assert {"shop", "admin_user"} <= set(before)
        stored = content_of_database(service)

        update(service.folder, {**answers, "kit_tests": version == OLDEST})

        assert conflicts(service.folder) == []
        assert content_of_database(service) == stored, "an update touches no database"
        service.make("setup")
        service.make("db-upgrade")
        after = rows(service, "show")
        assert {table: kept_of(before[table], after[table]) for table in before} == before
        own = ["loyalty"] if (service.folder / "app/extensions/loyalty").exists() else []
        extensions = [*own, *answers.get("extensions", [])]
        folder = service.folder / "app/extensions"
        branches = [
            "core",
            "service",
            *(e for e in extensions if (folder / e / "migrations").exists()),
        ]
        assert sorted(heads(service)) == sorted(("applied", branch) for branch in branches)
        if version == OLDEST:
            service.make("test", f"args={MEETS_OWNER}")


@pytest.mark.full
def test_the_owner_s_files_work_with_a_later_kit(releases: Path, service_folder: Path) -> None:
    """They are as the service's first release wrote them, and its tests with them."""
    project = start(releases, MADE_OWNED, ALL_EXTENSIONS, service_folder / "owned")
    update(project, ALL_EXTENSIONS)
    assert conflicts(project) == []
    commit_all(project, "Update")
    service = Service(project, {"UV_CACHE_DIR": cache_of_uv()})
    service.make("setup")
    for target in ("lint", "typecheck", "test"):
        service.make(target)


def rows(service: LivingService, what: str) -> dict[str, list[dict[str, object]]]:
    """All rows of a service's database by their table; `fill` puts one into each before."""
    output = service.run(*service.python, "-c", ROWS.read_text(encoding="utf-8"), what)
    found: dict[str, list[dict[str, object]]] = json.loads(output.splitlines()[-1])
    return found


def kept_of(
    before: list[dict[str, object]], after: list[dict[str, object]]
) -> list[dict[str, object]]:
    """What is there of rows that were; a release may have added columns."""
    return [{name: row[name] for name in old} for old, row in zip(before, after, strict=True)]


def content_of_database(service: LivingService) -> str:
    """A digest of all that the embedded server keeps, once it has ended."""
    folder = service.folder / ".data" / "pg"
    deadline = time.monotonic() + 30
    while (folder / "postmaster.pid").exists():
        assert time.monotonic() < deadline, "the embedded server still runs"
        time.sleep(0.1)
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()


def heads(service: LivingService) -> list[tuple[str, str]]:
    """The newest revisions that there are: whether each is applied, and its branch."""
    status = service.make("db-status")
    return re.findall(r"^(applied|missing) +(\w+) +\w+: ", status, re.MULTILINE)
