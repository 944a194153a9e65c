"""What an update should give, worked out without Copier: a merge of three trees, file by file."""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.owners_paths import is_owners

Tree = dict[str, bytes]
"""Contents by path."""

ANSWERS = ".copier-answers.yml"

_LABELS = ("before updating", "last update", "after updating")


@dataclass
class Merged:
    """A tree, with what is due where both sides changed the same lines."""

    tree: Tree = field(default_factory=dict)
    settled: Tree = field(default_factory=dict)
    """Files with markers in them, as they are when the new side is taken where both changed."""


def read_tree(folder: Path) -> Tree:
    """All files of a folder, but for git's and the answers."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in _files(folder)
        if path != folder / ANSWERS
    }


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or path.is_file():
            yield path
        elif path.name != ".git":
            yield from _files(path)


def merged(base: Tree, mine: Tree, new: Tree, renamed: tuple[str, str] | None = None) -> Merged:
    """What a project holds after an update.

    Args:
        base: what its release gives.
        mine: what it holds.
        new: what the other release, or other answers, give.
        renamed: a file's name in its release and in the other one.
    """
    if renamed and renamed[1] not in mine:
        base, mine = _moved(base, *renamed), _moved(mine, *renamed)
    result = Merged({path: content for path, content in mine.items() if is_owners(path)})
    for path in sorted(path for path in {*base, *mine, *new} if not is_owners(path)):
        before, ours, theirs = base.get(path), mine.get(path), new.get(path)
        if ours is None or theirs is None or len({before, ours, theirs}) < 3:
            content = _unmerged(before, ours, theirs)
            if content is not None:
                result.tree[path] = content
            continue
        result.tree[path], is_conflict = _merge_lines(before or b"", ours, theirs)
        if is_conflict:
            result.settled[path], _ = _merge_lines(before or b"", ours, theirs, "--theirs")
    return result


def _moved(tree: Tree, old: str, new: str) -> Tree:
    return {new if path == old else path: content for path, content in tree.items()}


def _unmerged(before: bytes | None, ours: bytes | None, theirs: bytes | None) -> bytes | None:
    """What is there of a file that one side, at most, has to offer."""
    if ours == before:
        return theirs
    if ours is None:  # deleted: stays so, whatever the release does to it
        return None
    if theirs is None:  # the owner's own; or edited, and gone with its extension
        return ours if before is None else None
    return ours


def _merge_lines(base: bytes, mine: bytes, new: bytes, *options: str) -> tuple[bytes, bool]:
    """What git makes of both changes to a file, and whether they meet in the same lines."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("mine", "base", "new")]
        for path, content in zip(paths, (mine, base, new), strict=True):
            path.write_bytes(content)
        labels = [part for label in _LABELS for part in ("-L", label)]
        done = subprocess.run(
            ["git", "merge-file", "--stdout", *labels, *options, *paths],
            check=False,
            capture_output=True,
        )
    assert 0 <= done.returncode < 128, done.stderr.decode()
    return done.stdout, done.returncode > 0
