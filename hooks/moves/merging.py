"""Merge an owner's edits of a module into its new version, as text or else piece by piece."""

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

from hooks.moves.imports import with_imports_of
from hooks.moves.pieces import (
    ALIKE,
    Piece,
    pieces_inside,
    pieces_of_module,
)
from hooks.rename import merge

Context = tuple[Piece, ...]
"""Statements of the base that a piece stands in, the outermost first."""

Anchor = tuple[Piece, int]
"""A piece that stands in the new version, and the index of the line behind it."""

Elsewhere = Callable[[Context, Piece, Piece], bool]
"""Merges a changed piece (enclosing, before, after) into another module, if one has it."""

BEFORE, MIDDLE, AFTER = "<<<<<<< before updating", "=======", ">>>>>>> after updating"


@dataclass
class Merged:
    """What became of a module.

    Args:
        text: the new version with the edits.
        added: pieces that went into it.
        taken_out: pieces that the owner had deleted and that this version has not, either.
    """

    text: str
    added: list[Piece] = field(default_factory=list)
    taken_out: list[str] = field(default_factory=list)

    @property
    def has_conflicts(self) -> bool:
        """Whether there are conflict markers in it."""
        return has_markers(self.text)


def has_markers(text: str) -> bool:
    """Whether a text has conflict markers."""
    return bool(re.search(rf"^{BEFORE}$", text, re.MULTILINE))


def merge_texts(base: str, edited: str, released: str) -> Merged:
    """Merge as git does, line by line."""
    merged, _ = merge(base.encode(), edited.encode(), released.encode())
    return Merged(merged.decode())


def merge_plain(base: str, edited: str, released: str) -> Merged:
    """Merge line by line; what was added at the end goes to the end if it conflicts otherwise."""
    merged = merge_texts(base, edited, released)
    if not merged.has_conflicts:
        return merged
    before, after = base.splitlines(keepends=True), edited.splitlines(keepends=True)
    kind, start, _, at, _ = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()[-1]
    if kind != "insert" or start != len(before):
        return merged
    rest = merge_texts(base, "".join(after[:at]), released)
    if rest.has_conflicts:
        return merged
    return Merged(rest.text + "".join(after[at:]))


def merge_pieces(old: Piece, edited: Piece, new: Piece) -> Merged:
    """Merge line by line; comments that would conflict go above, where code was not edited."""
    merged = merge_texts(old.text, edited.text, new.text)
    if merged.has_conflicts:
        # A value and its description are two things, though their lines touch.
        value, words = (
            merge_texts(*parts)
            for parts in zip(old.described, edited.described, new.described, strict=True)
        )
        if not value.has_conflicts and not words.has_conflicts:
            return Merged(value.text + words.text)
    comments = _without_code(old, edited)
    if not merged.has_conflicts or comments is None:
        return merged
    return Merged(comments.dedented_to(_indent(new.lines[0])).text + new.text)


def merge_modules(
    base: str, edited: str, released: str, elsewhere: Elsewhere, *, is_own: bool = True
) -> Merged:
    """Merge line by line where that has no conflicts, else piece by piece.

    Imports stay as the release has them; whoever calls adds those that are missing.

    Args:
        base: the module in the old release.
        edited: the same with the owner's edits.
        released: what stands in its place in the new release.
        elsewhere: finds another module for a piece that the new version has not.
        is_own: whether the module is the owner's, and so described in the owner's words.

    Raises:
        SyntaxError: when one of them is no valid Python.
    """
    edited = with_imports_of(base, edited)
    merged = merge_texts(base, edited, released)
    if not merged.has_conflicts:
        return merged
    return _PieceMerge(base, edited, released, elsewhere, is_own=is_own).run()


class _EntangledError(Exception):
    """The edits surround what has moved, so that they cannot be told apart."""


class _PieceMerge:
    def __init__(
        self, base: str, edited: str, released: str, elsewhere: Elsewhere, *, is_own: bool
    ) -> None:
        self._base, self._edited = base, edited
        self._base_lines = base.rstrip("\n").split("\n")
        self._edited_lines = edited.rstrip("\n").split("\n")
        self._lines = released.rstrip("\n").split("\n")
        self._released = released
        self._elsewhere = elsewhere
        self._is_own = is_own
        self._changes: list[tuple[int, int, int, list[str]]] = []
        self._added: list[Piece] = []
        self._taken_out: list[str] = []

    def run(self) -> Merged:
        """The new version with the edits."""
        self._level(
            (),
            pieces_of_module(self._base),
            pieces_of_module(self._edited),
            pieces_of_module(self._released),
        )
        lines = list(self._lines)
        for start, end, _, new in sorted(self._changes, key=lambda x: (x[0], x[2]), reverse=True):
            lines[start:end] = new
        text = re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)) + "\n"
        return Merged(text, self._added, self._taken_out)

    def _change(self, start: int, end: int, lines: list[str]) -> None:
        self._changes.append((start, end, len(self._changes), lines))

    def _level(
        self, context: Context, base: list[Piece], edited: list[Piece], released: list[Piece]
    ) -> None:
        before = {piece.key: piece for piece in base}
        after = {piece.key: piece for piece in released}
        after |= _renamed(base, released)
        reworded = _reworded(base, edited, released)
        left: Anchor | None = None
        for index, piece in enumerate(edited):
            if piece.is_import:
                continue
            old, new = reworded.get(piece.key) or (before.get(piece.key), after.get(piece.key))
            if new is not None and not piece.is_docstring:
                left = new, new.end
            if old is not None and piece.lines == old.lines:
                continue
            if new is not None:
                self._changed(context, old, piece, new)
            elif old is None or (context and _is_class(context[-1]) and piece.is_field):
                self._refuse_entangled(piece, base, edited)
                right = _next(edited[index + 1 :], after)
                left = self._insert(context, piece, left, right, released)
            elif not piece.is_docstring and not self._elsewhere(context, old, piece):
                right = _next(edited[index + 1 :], after)
                if (rest := _without_code(old, piece)) is None:
                    left = self._insert(context, piece, left, right, released, has_place=False)
                elif rest.lines:
                    left = self._insert(context, rest, left, right, released)
        done = {old.key for old, _ in reworded.values()}
        self._remove([old for old in base if old.key not in done], edited, after)

    def _remove(
        self, base: list[Piece], edited: list[Piece], after: dict[tuple[str, str, int], Piece]
    ) -> None:
        kept = {piece.key for piece in edited}
        for old in base:
            if old.key in kept or old.is_import or old.is_docstring:
                continue
            new = after.get(old.key)
            if new is None:
                self._taken_out.append(old.key[1].partition("\n")[0])
            elif new.dedented_to(0).lines == old.dedented_to(0).lines:
                self._change(new.start, new.end, [])
            else:
                self._change(new.start, new.end, [BEFORE, MIDDLE, *new.lines, AFTER])

    def _changed(self, context: Context, old: Piece | None, piece: Piece, new: Piece) -> None:
        if old is None:
            if new.lines != piece.lines:
                self._change(new.start, new.end, _both(piece, new))
            return
        merged = merge_pieces(old, piece, new)
        if merged.has_conflicts and piece.is_docstring and self._is_own:
            self._change(new.start, new.end, list(piece.lines))
            return
        if merged.has_conflicts and self._goes_inside(context, old, piece, new):
            return
        self._change(new.start, new.end, merged.text.rstrip("\n").split("\n"))

    def _goes_inside(self, context: Context, old: Piece, piece: Piece, new: Piece) -> bool:
        """Merge what is inside of a statement, unless the code around that was edited."""
        before = pieces_inside(old.node, self._base_lines)
        edited = pieces_inside(piece.node, self._edited_lines)
        after = pieces_inside(new.node, self._lines)
        if before is None or edited is None or after is None:
            return False
        shells = _shell(old, before), _shell(piece, edited)
        if _code(shells[0]) != _code(shells[1]):
            return False
        done = len(self._changes), len(self._added), len(self._taken_out)
        try:
            self._level((*context, new), before, edited, after)
        except _EntangledError:
            del self._changes[done[0] :], self._added[done[1] :], self._taken_out[done[2] :]
            return False
        if comments := _added_comments(*shells):
            indent = " " * _indent(self._lines[new.start])
            self._change(new.start, new.start, [f"{indent}{each}" for each in comments])
        return True

    def _insert(
        self,
        context: Context,
        piece: Piece,
        left: Anchor | None,
        right: Piece | None,
        released: list[Piece],
        *,
        has_place: bool = True,
    ) -> Anchor:
        """Put a piece behind its left neighbour, or else before its right one; where it is then.

        One that has no place in the new release is put in conflict markers.
        """
        if piece.key[0] == "entry":
            if not released:
                return self._first_entry(context[-1], piece)
            piece = replace(piece, lines=(*piece.lines[:-1], _with_comma(piece.lines[-1])))
        piece = piece.dedented_to(_indent(self._lines[released[0].start]) if context else 0)
        if has_place:
            self._added.append(piece)
        else:
            piece = replace(piece, lines=(BEFORE, *piece.lines, MIDDLE, AFTER))
        if left is None and right is not None:
            gap = [""] * _gap(context, piece, right)
            self._change(right.start, right.start, [*piece.lines, *gap])
            return piece, right.start
        end = released[-1].end if released else len(self._lines)
        at = left[1] if left is not None and right is not None else end
        neighbour = (
            left[0] if left is not None and left[1] == at else released[-1] if released else None
        )
        gap = [""] * max(_gap(context, neighbour, piece), min(piece.gap, 1 if context else 2))
        self._change(at, at, [*gap, *piece.lines, *self._fill(context, piece, right, at)])
        return piece, at

    def _fill(self, context: Context, piece: Piece, right: Piece | None, at: int) -> list[str]:
        """Empty lines that are missing between a piece and what follows it."""
        if right is None:
            return []
        empty = 0
        while at + empty < len(self._lines) and not self._lines[at + empty].strip():
            empty += 1
        return [""] * max(0, _gap(context, piece, right) - empty)

    def _first_entry(self, outer: Piece, piece: Piece) -> Anchor:
        """Put an entry into a dictionary or a list that is empty in the new version."""
        at = outer.end - 1
        line = self._lines[at]
        margin = _indent(line)
        lines = list(piece.dedented_to(margin + 4).lines)
        lines[-1] = _with_comma(lines[-1])
        self._added.append(piece)
        opened = next(
            (new for start, end, _, new in self._changes if (start, end) == (at, at + 1)), None
        )
        if opened is not None:
            opened[-1:-1] = lines
        elif found := re.search(r"([\]})])\s*(#.*)?$", line):
            start = line[: found.start(1)].rstrip()
            self._change(at, at + 1, [start, *lines, " " * margin + line[found.start(1) :]])
        return piece, at

    @staticmethod
    def _refuse_entangled(piece: Piece, base: list[Piece], edited: list[Piece]) -> None:
        if piece.node is None or piece.is_definition:
            return
        kept = {other.key for other in edited}
        moved = {old.key[1] for old in base if old.key not in kept and old.key[1] != "yield"}
        inner = {ast.unparse(node) for node in ast.walk(piece.node) if isinstance(node, ast.stmt)}
        if moved & inner - {ast.unparse(piece.node)}:
            raise _EntangledError


def _renamed(base: list[Piece], released: list[Piece]) -> dict[tuple[str, str, int], Piece]:
    """Definitions that have another name in the new version, by their old one."""
    before, after = ({x.key for x in pieces} for pieces in (base, released))
    new = [piece for piece in released if piece.is_definition and piece.key not in before]
    found: dict[tuple[str, str, int], Piece] = {}
    for old in base:
        if old.is_definition and old.key not in after and new:
            likest = max(new, key=old.likeness)
            if old.likeness(likest) > ALIKE:
                found[old.key] = likest
    return found


def _reworded(
    base: list[Piece], edited: list[Piece], released: list[Piece]
) -> dict[tuple[str, str, int], tuple[Piece, Piece]]:
    """Statements that both have changed, by what they are in the edited module: before, and new."""
    ours, theirs = (
        {old.key: new for new in pieces for old in _alike(base, pieces, new)}
        for pieces in (edited, released)
    )
    return {
        ours[old.key].key: (old, theirs[old.key])
        for old in base
        if old.key in ours and old.key in theirs
    }


def _alike(base: list[Piece], pieces: list[Piece], new: Piece) -> Iterator[Piece]:
    """The statement of the base that a new one was, if it is no longer there."""
    before, after = ({x.key for x in each} for each in (base, pieces))
    if new.key[0] == "statement" and new.key not in before:
        gone = [x for x in base if x.key[0] == "statement" and x.key not in after]
        likest = max(gone, key=new.likeness, default=None)
        if likest is not None and new.likeness(likest) > ALIKE:
            yield likest


def _is_class(piece: Piece) -> bool:
    return isinstance(piece.node, ast.ClassDef)


def _next(pieces: list[Piece], after: dict[tuple[str, str, int], Piece]) -> Piece | None:
    found = (after[piece.key] for piece in pieces if piece.key in after and not piece.is_import)
    return next(found, None)


def _both(piece: Piece, new: Piece) -> list[str]:
    return [BEFORE, *piece.lines, MIDDLE, *new.lines, AFTER]


def _without_code(old: Piece, piece: Piece) -> Piece | None:
    """The comments that were added to a piece; `None` where its code was changed, too."""
    if old.node is None or piece.node is None or ast.unparse(old.node) != ast.unparse(piece.node):
        return None
    comments = _added_comments(old.lines, piece.lines)
    return Piece(("comment", "", 0), tuple(comments), piece.start, piece.end, 1, None)


def _added_comments(before: Sequence[str], after: Sequence[str]) -> list[str]:
    added = [line for line in after if line not in before]
    return [found[1] for line in added if (found := re.search(r"(?:^|\s)(#.*)$", line))]


def _shell(piece: Piece, inner: list[Piece]) -> list[str]:
    """The lines of a piece that are not in those inside of it."""
    if not inner:
        return list(piece.lines)
    first, last = inner[0].start - piece.start, inner[-1].end - piece.start
    return [*piece.lines[:first], *piece.lines[last:]]


def _code(lines: list[str]) -> list[str]:
    """Lines without comments and what surrounds them."""
    return [code for line in lines if (code := re.sub(r"(^|\s)#.*$", "", line).strip())]


def _gap(context: Context, left: Piece | None, right: Piece) -> int:
    """Empty lines that have to be between two pieces."""
    has_definition = right.is_definition or (left is not None and left.is_definition)
    if not context:
        return 2 if has_definition else 1 if left is None or left.is_docstring else 0
    if right.key[0] == "entry" or not _is_class(context[-1]):
        return 0
    return int(has_definition or left is None or left.is_docstring)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _with_comma(line: str) -> str:
    code, mark, comment = line.partition("  #")
    code = code.rstrip()
    return (code if code.endswith(",") else f"{code},") + (f"{mark}{comment}" if mark else "")
