"""The three versions of a project, and what becomes of its files."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from hooks.moves.merging import has_markers
from hooks.moves.names import Names, dotted
from hooks.moves.report import Report, Topic
from hooks.moves.rewriting import Rewriter, is_text
from hooks.moves.trees import Files, text_of


@dataclass
class State:
    """All that the steps of one move share.

    Args:
        names: where names are in the new release.
        base: the old release, as rendered.
        edited: the project at the old release, with the owner's edits.
        new: the new release, as rendered.
    """

    names: Names
    base: Files
    edited: Files
    new: Files
    report: Report = field(default_factory=Report)
    versions: dict[str, list[bytes]] = field(default_factory=dict)
    """Base, edited and new version of files that were merged."""
    deleted: Files = field(default_factory=dict)
    """Files of the new release that the owner had deleted."""
    result: dict[str, bytes | None] = field(default_factory=dict)
    """What files become; `None` for those that are deleted."""
    sources: dict[str, set[str]] = field(default_factory=dict)
    """Files of the old release whose edits were merged into a file."""

    def outcome(self) -> Files:
        """All files of the project afterwards."""
        files = {**self.edited, **self.result}
        return {path: content for path, content in files.items() if content is not None}

    def is_edited(self, path: str) -> bool:
        """Whether the owner has changed a file of the old release."""
        return path in self.edited and self.edited[path] != self.base.get(path)

    def text(self, path: str) -> str:
        """What a file of the new release has become by now."""
        content = self.result.get(path, self.new.get(path))
        return text_of(content) or ""

    def put(self, path: str, text: str) -> None:
        """Set what a file becomes."""
        self.result[path] = text.encode()

    def put_merged(self, path: str, text: str, old: str) -> None:
        """Set what a file becomes by a merge.

        Args:
            path: of the file.
            text: merged, maybe with conflict markers.
            old: the path of the base and of the edited version.
        """
        self.put(path, text)
        sides = [self.base[old], self.edited[old]]
        if has_markers(self.edited[old].decode()):
            sides = self.versions.get(old, sides)[:2]
        self.versions[path] = [*sides, self.new.get(path, b"")]
        self.sources.setdefault(path, set()).add(old)
        if has_markers(text):
            self.report.add(Topic.CONFLICTS, path if path == old else f"{path} (was {old})")

    def keep(self, path: str, reason: str) -> None:
        """Keep a file as the owner has it, but for the names in it."""
        text = text_of(self.edited[path])
        if text is None or not is_text(path):
            self.result[path] = self.edited[path]
        else:
            self.put(path, self.rewriter(path).rewrite(text, path))
        self.report.add(Topic.KEPT, f"{path}: {reason}")

    def conflicts(self) -> dict[str, list[bytes]]:
        """Base, edited and new version of each file that has conflict markers."""
        return {
            path: self.versions.get(path, [b"", b"", self.new.get(path, b"")])
            for path, content in self.result.items()
            if content is not None and (path in self.new or path in self.versions)
            if has_markers(text_of(content) or "")
        }

    def unsettled(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Files with conflicts, each with the base and the edited version for the next move.

        Merged again with its markers, a file would get markers within markers, and git's index
        would have them as the owner's version. Only a file in which the edits of several met has to
        be.
        """
        for path in self.conflicts():
            for old in self.sources.get(path, ()):
                if self.sources[path] == {old} and self.names.table.paths.get(old, old) == path:
                    inside = dotted(path) if path.endswith(".py") else ""
                    base, edited = self.rewritten(old, inside=inside)
                    yield path, base.encode(), edited.encode()

    def rewritten(self, path: str, *, inside: str = "") -> tuple[str, str]:
        """Base and edited version of a text with the new names; what to look at is reported.

        Args:
            path: of the file in the old release.
            inside: the module of the kit that it becomes.
        """
        known: set[str] = set()
        before = Rewriter(self.names, lambda _, text: known.add(text))
        base = before.rewrite(self.base[path].decode(), path, inside=inside)
        edited = self.rewriter(path, known).rewrite(self.edited[path].decode(), path, inside=inside)
        return base, edited

    def rewriter(self, path: str, known: set[str] | None = None) -> Rewriter:
        """A rewriter that reports what to look at in a file, but for what is known."""

        def note(line: int, text: str) -> None:
            if text not in (known or set()):
                self.report.add(Topic.LOOK, f"{path}:{line} {text}")

        return Rewriter(self.names, note)
