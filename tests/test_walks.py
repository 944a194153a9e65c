"""Whatever is done to a project, in whatever order, leaves it as its owner expects.

Hypothesis draws the walks. In CI they are few and always the same; many more, new ones each time:

    pytest tests/test_walks.py --hypothesis-profile=long
"""

import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from copier import VcsRef, run_recopy, run_update
from copier.errors import UserMessageError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.combinations import Answers, catalogue
from tests.conftest import copy_template
from tests.later_releases import (
    ADDED_EXTENSION,
    ADDED_QUESTION,
    CHANGED,
    FIRST,
    RELEASES,
    RENAMED,
    SECOND,
    THIRD,
    clone_with_later_releases,
    plain_copy,
)
from tests.merged_tree import ANSWERS, Tree, merged, read_tree
from tests.owners_paths import is_owners
from tests.repositories import commit_all, git

FreshTree = Callable[[str, Answers], tuple[Tree, Answers]]

OTHER_ANSWERS: list[Answers] = [
    {"project_name": 'Käse & "Wein" #1'},
    {"project_name": "Acme"},
    {"project_description": "Sells {{ cheese }}."},
    {"author": "Ada Lovelace <ada@example.com>"},
    {"database": "none"},
    {"database": "postgresql", "postgres_connection": "postgresql://shop@db.example.com/orders"},
    {"database": "postgresql", "postgres_connection": "postgresql://shop@db2.example.com/orders"},
    {"redis": "none"},
    {"redis": "redis", "redis_endpoint": "redis.example.com:6379", "redis_tls": True},
    {"time_zone": "Europe/Berlin"},
    {"ci": "none"},
    {"ci": "gitlab"},
    {"ci": "github"},
    {"python_minimum": "3.12"},
    {"python_minimum": "3.11"},
    {"kit_tests": True},
    {"kit_tests": False},
]

FOLLOWING = {  # questions that are asked after some answers to others
    "postgres_connection": ("database", "postgresql"),
    "redis_endpoint": ("redis", "redis"),
    "redis_tls": ("redis", "redis"),
}

METADATA = ("pyproject.toml", ".yml", ".yaml", ".json")
"""Files that only whole lines can be added to without breaking them."""

OWN_EXTENSION = "loyalty"

CHANGE = st.sampled_from(["insert", "replace", "remove"])
"""What is done to a line."""

PLACE = st.integers(0, 8)
"""Number of a line in the part of a file where releases change something."""

CHANGES = st.lists(st.tuples(st.sampled_from(CHANGED), PLACE, CHANGE), min_size=2, max_size=8)


class ProjectWalk(RuleBasedStateMachine):
    """One project, and beside it what it is expected to hold."""

    def __init__(self, releases: Path, folder: Path, fresh: FreshTree) -> None:
        """Of these releases, in a new folder below this one."""
        super().__init__()
        self.releases = releases
        self.fresh = fresh
        walks = len(list(folder.iterdir()))
        self.project = folder / f"walk{walks}" / "project"
        self.project.parent.mkdir()
        self.release = FIRST
        self.answers: Answers = {"extensions": []}
        self.tree: Tree = {}
        self.own: Tree = {}
        self.deleted: set[str] = set()
        self.edited: set[str] = set()
        self.own_is_enabled = False
        self.edits = 0

    # --- Beginning ---

    @initialize(
        release=st.sampled_from([FIRST, SECOND]),
        others=st.lists(st.sampled_from(OTHER_ANSWERS), max_size=2),
        extensions=st.lists(st.sampled_from(catalogue()), unique=True, max_size=3),
        changes=CHANGES,
        has_own_extension=st.booleans(),
    )
    def copy(
        self,
        release: str,
        others: list[Answers],
        extensions: list[str],
        changes: list[tuple[str, int, str]],
        has_own_extension: bool,
    ) -> None:
        """`copier copy`, and some work."""
        self.release = release
        self.answers = given({"extensions": sorted(extensions)}, *others)
        copy_template(self.releases, self.project, release=release, **self.answers)
        self.tree = dict(self.fresh(release, self.answers)[0])
        commit_all(self.project, "Start")
        self.edit_what_releases_change(changes)
        if has_own_extension:
            self.begin_an_extension()

    # --- Work of the owner ---

    @rule(data=st.data(), change=CHANGE)
    def edit(self, data: st.DataObject, change: str) -> None:
        """A line of any file."""
        path = data.draw(st.sampled_from(self.texts()))
        place = data.draw(st.integers(0, self.tree[path].count(b"\n")))
        self.edit_line(path, place, change)

    @rule(changes=CHANGES)
    def edit_what_releases_change(self, changes: list[tuple[str, int, str]]) -> None:
        """Lines near to theirs, and theirs."""
        for path, place, change in changes:
            if path in self.tree:
                self.edit_line(path, place, change)

    def edit_line(self, path: str, place: int, change: str) -> None:
        lines = self.tree[path].decode().splitlines(keepends=True)
        self.edits += 1
        if change == "insert" or place >= len(lines) or path.endswith(METADATA):
            lines.insert(place, f"# ours {self.edits}\n")
        elif change == "replace":
            lines[place] = f"# ours {self.edits}\n"
        else:
            del lines[place]
        self.write(path, "".join(lines).encode())
        self.edited.add(path)
        commit_all(self.project, "Edit")

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """A file of the template's, but for the one that says what the project is."""
        known = sorted({*self.fresh(self.release, self.answers)[0]} & {*self.tree})
        known.remove("pyproject.toml")
        changed = [path for path in CHANGED if path in known]
        path = data.draw(st.sampled_from(changed or known) | st.sampled_from(known))
        self.remove(path)
        commit_all(self.project, "Delete")

    @rule(data=st.data())
    def add_a_file(self, data: st.DataObject) -> None:
        """Anywhere, in a folder of an extension as well."""
        folders = ["app/models", "alembic/versions", "app/extensions/_example"]
        folders += [f"app/extensions/{name}" for name in self.answers["extensions"]]
        self.edits += 1
        path = f"{data.draw(st.sampled_from(folders))}/ours_{self.edits}.py"
        self.own[path] = b"OURS = True\n"
        self.write(path, self.own[path])
        commit_all(self.project, "Add a file")

    @precondition(lambda self: not self.files_of(OWN_EXTENSION))
    @rule()
    def begin_an_extension(self) -> None:
        """A copy of `_example`, enabled where `make extension` enables it."""
        skeleton = "app/extensions/_example/"
        for path, content in list(self.tree.items()):
            if path.startswith(skeleton):
                copied = path.replace("_example", OWN_EXTENSION)
                self.own[copied] = content.replace(b"_example", OWN_EXTENSION.encode())
                self.write(copied, self.own[copied])
        line = b"enabled_extensions = [\n"
        enabled = b'%s    "%s",\n' % (line, OWN_EXTENSION.encode())
        self.write("pyproject.toml", self.tree["pyproject.toml"].replace(line, enabled))
        self.own_is_enabled = True
        commit_all(self.project, "Begin an extension")

    # --- Copier ---

    @rule(data=st.data(), onwards=st.booleans())
    def choose(self, data: st.DataObject, onwards: bool) -> None:
        """One more extension of the catalogue, with or without the next release."""
        offered = [*catalogue(), *([ADDED_EXTENSION] if self.release != FIRST else [])]
        chosen = self.answers["extensions"]
        if missing := [name for name in offered if name not in chosen]:
            added = data.draw(st.sampled_from(missing))
            answers = {**self.answers, "extensions": sorted([*chosen, added])}
            self.follow(self.next_release(onwards), answers)

    @precondition(lambda self: self.answers["extensions"])
    @rule(data=st.data(), onwards=st.booleans())
    def give_back(self, data: st.DataObject, onwards: bool) -> None:
        """An extension that was chosen."""
        chosen = self.answers["extensions"]
        dropped = data.draw(st.sampled_from(chosen))
        rest = [name for name in chosen if name != dropped]
        self.follow(self.next_release(onwards), {**self.answers, "extensions": rest})

    @rule(other=st.sampled_from(OTHER_ANSWERS), onwards=st.booleans())
    def answer_anew(self, other: Answers, onwards: bool) -> None:
        """Another answer, with or without the next release."""
        self.follow(self.next_release(onwards), given(self.answers, other))

    @precondition(lambda self: self.release != FIRST)
    @rule(motto=st.sampled_from(["Onwards", "Upwards"]))
    def answer_the_new_question(self, motto: str) -> None:
        """One that the second release added."""
        self.follow(self.release, {**self.answers, ADDED_QUESTION: motto})

    @precondition(lambda self: self.release != THIRD)
    @rule()
    def update_to_the_next_release(self) -> None:
        """One of two, where there are two."""
        self.follow(self.next_release(onwards=True), self.answers)

    @precondition(lambda self: self.release != THIRD)
    @rule()
    def update_to_the_newest_release(self) -> None:
        """Over one, where there are two."""
        self.follow(THIRD, self.answers)

    @rule()
    def update_to_what_is_there(self) -> None:
        """Changes nothing, whatever its owner has done."""
        before = git(self.project, "rev-parse", "HEAD^{tree}")
        self.follow(self.release, self.answers)
        assert git(self.project, "rev-parse", "HEAD^{tree}") == before

    @precondition(lambda self: self.release != FIRST)
    @rule()
    def update_to_an_older_release(self) -> None:
        """Is refused."""
        with pytest.raises(UserMessageError, match="Downgrades are not supported"):
            run_update(self.project, vcs_ref=FIRST, defaults=True, overwrite=True, quiet=True)
        assert git(self.project, "status", "--porcelain") == ""

    @rule(newest=st.booleans())
    def recopy(self, newest: bool) -> None:
        """Begins anew: edits go, but not in the owner's files; deleted ones come back."""
        self.release = THIRD if newest else self.release
        reference = self.release if newest else VcsRef.CURRENT
        run_recopy(self.project, vcs_ref=reference, defaults=True, overwrite=True, quiet=True)
        fresh, _ = self.fresh(self.release, self.answers)
        owners = {path: content for path, content in self.tree.items() if is_owners(path)}
        self.tree = {**self.tree, **fresh, **owners}
        self.deleted.clear()
        self.edited.clear()
        self.own_is_enabled = False
        commit_all(self.project, "Recopy")

    def follow(self, release: str, answers: Answers) -> None:
        """`copier update`, merged as it should be; what conflicts takes the template's side."""
        base, _ = self.fresh(self.release, self.answers)
        new, _ = self.fresh(release, answers)
        crosses = self.release != THIRD and release == THIRD
        expected = merged(base, self.tree, new, RENAMED if crosses else None)

        run_update(
            self.project,
            data=answers,
            vcs_ref=VcsRef.CURRENT if release == self.release else release,
            defaults=True,
            overwrite=True,
            unsafe=crosses,
            quiet=True,
        )

        unmerged = git(self.project, "diff", "--name-only", "--diff-filter=U", "-z")
        assert differences(read_tree(self.project), expected.tree) == []
        assert set(unmerged.split("\0")) - {""} == set(expected.settled)
        if crosses and RENAMED[0] in self.edited:
            self.edited.add(RENAMED[1])
        assert set(expected.settled) <= self.edited, "only lines that were edited can conflict"
        self.release, self.answers, self.tree = release, answers, expected.tree
        self.deleted = {path for path in self.deleted if path in new or is_owners(path)}
        for path, content in expected.settled.items():
            self.write(path, content)
        commit_all(self.project, "Update")

    # --- What holds after each step ---

    @invariant()
    def holds_what_is_expected(self) -> None:
        """Not a byte more or less, and nothing that git would not have."""
        assert differences(read_tree(self.project), self.tree) == []
        assert git(self.project, "status", "--porcelain") == ""

    @invariant()
    def remembers_the_answers(self) -> None:
        """All that were given, and where from."""
        text = (self.project / ANSWERS).read_text(encoding="utf-8")
        remembered = yaml.safe_load(text)
        assert remembered.pop("_commit") == self.release
        assert remembered.pop("_src_path") == str(self.releases)
        assert {name: remembered.get(name) for name in self.answers} == self.answers
        assert remembered == self.fresh(self.release, self.answers)[1]

    @invariant()
    def has_the_extensions_that_were_chosen(self) -> None:
        """Those of the catalogue, and its owner's own where nothing has begun anew since."""
        chosen = self.answers["extensions"]
        for name in [*catalogue(), ADDED_EXTENSION]:
            files = self.files_of(name)
            assert name in chosen or files <= {*self.own}, name
            assert name not in chosen or files - {*self.own}, name
        document = tomllib.loads((self.project / "pyproject.toml").read_text(encoding="utf-8"))
        enabled = document["tool"]["service"]["enabled_extensions"]
        assert [name for name in enabled if name != OWN_EXTENSION] == chosen
        if "pyproject.toml" not in self.edited:
            assert (OWN_EXTENSION in enabled) == self.own_is_enabled

    @invariant()
    def keeps_what_its_owner_did(self) -> None:
        """Files of their own are there, deleted ones are not."""
        for path, content in self.own.items():
            assert (self.project / path).read_bytes() == content
        assert [path for path in self.deleted if (self.project / path).exists()] == []

    # --- Helpers ---

    def write(self, path: str, content: bytes) -> None:
        (self.project / path).parent.mkdir(parents=True, exist_ok=True)
        (self.project / path).write_bytes(content)
        self.tree[path] = content
        if path in self.own:
            self.own[path] = content

    def remove(self, path: str) -> None:
        (self.project / path).unlink()
        del self.tree[path]
        self.deleted.add(path)

    def next_release(self, onwards: bool) -> str:
        position = RELEASES.index(self.release) + onwards
        return RELEASES[min(position, len(RELEASES) - 1)]

    def texts(self) -> list[str]:
        return sorted(path for path, content in self.tree.items() if b"\0" not in content)

    def files_of(self, extension: str) -> set[str]:
        return {path for path in self.tree if path.startswith(f"app/extensions/{extension}/")}


def given(*answers: Answers) -> Answers:
    """Answers after one another, without those to questions that are not asked then."""
    last = {name: value for each in answers for name, value in each.items()}
    return {
        name: value
        for name, value in last.items()
        if name not in FOLLOWING or last.get(FOLLOWING[name][0]) == FOLLOWING[name][1]
    }


def differences(found: Tree, expected: Tree) -> list[str]:
    """Names of the files that are not the same."""
    return [path for path in sorted({*found, *expected}) if found.get(path) != expected.get(path)]


@pytest.fixture(scope="module")
def releases(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone_with_later_releases(template, tmp_path_factory.mktemp("walks") / "releases")


@pytest.fixture(scope="module")
def fresh(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> FreshTree:
    """What `copier copy` gives, and the answers that it remembers; each rendered once."""
    folder = tmp_path_factory.mktemp("fresh")
    sources = {release: plain_copy(releases, release, folder / release) for release in RELEASES}
    rendered: dict[str, tuple[Tree, Answers]] = {}

    def _fresh(release: str, answers: Answers) -> tuple[Tree, Answers]:
        key = repr((release, sorted(answers.items())))
        if key not in rendered:
            project = copy_template(sources[release], folder / str(len(rendered)), **answers)
            remembered = yaml.safe_load((project / ANSWERS).read_text(encoding="utf-8"))
            del remembered["_src_path"]
            rendered[key] = read_tree(project), remembered
        return rendered[key]

    return _fresh


@pytest.mark.full
@pytest.mark.usefixtures("fast_copier")
def test_any_order_of_steps_leaves_what_is_expected(
    releases: Path, fresh: FreshTree, tmp_path: Path
) -> None:
    (tmp_path / "walks").mkdir()
    run_state_machine_as_test(
        partial(ProjectWalk, releases, tmp_path / "walks", fresh),  # type: ignore[arg-type]
        settings=settings(),
    )
