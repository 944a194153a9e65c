"""Merge modules: a moved one into the kit, and one of the owner's with what left it for the kit."""

import ast
from collections.abc import Iterator

from hooks.moves.imports import (
    add_imports,
    missing_names,
    names_used,
    own_imports,
)
from hooks.moves.merging import (
    Context,
    Merged,
    has_markers,
    merge_modules,
    merge_pieces,
    merge_plain,
)
from hooks.moves.names import defined, dotted, imported
from hooks.moves.pieces import ALIKE, Piece, pieces_inside, pieces_of_module
from hooks.moves.report import Topic
from hooks.moves.state import State
from hooks.moves.trees import text_of


class ModuleMerger:
    """Merges the edits of one module of the old release.

    Args:
        state: of the migration.
        old: the module's path in the old release.
    """

    def __init__(self, state: State, old: str) -> None:
        """Take the module's place in the old release."""
        self._state = state
        self._names = state.names
        self._old = old
        self._target = dotted(state.names.table.paths.get(old, ""))

    def into_kit(self, new: str) -> None:
        """Merge the edits into the file of the kit that the whole module became."""
        base, edited = self._state.rewritten(self._old, inside=dotted(new))
        before = clean = self._state.text(new)
        if has_markers(before):  # of another file that became this one, too
            clean = text_of(self._state.new[new]) or ""
        merged = merge_modules(base, edited, clean, self._elsewhere, is_own=False)
        text = self._complete(merged.text, base, edited, inside=dotted(new))
        if before != clean:
            text = merge_plain(clean, text, before).text
        self._state.put_merged(new, text, self._old)
        self._report_taken_out(merged)
        if not has_markers(text):
            self._state.report.add(Topic.MOVED, f"{self._old} -> {new}")

    def into_own(self) -> None:
        """Merge the edits into the owner's file at the same place, and the rest into the kit."""
        base, edited = self._state.rewritten(self._old)
        is_own = self._names.table.makes_owned and not self._old.startswith("kit/")
        merged = merge_modules(
            base, edited, self._state.text(self._old), self._elsewhere, is_own=is_own
        )
        text = self._complete(merged.text, base, edited)
        self._state.put_merged(self._old, text, self._old)
        self._report_taken_out(merged)
        if merged.added:
            names = ", ".join(_title(piece) for piece in merged.added)
            self._state.report.add(Topic.SHORT, f"{self._old}: {names}")
        elif self._old in self._names.table.short and text != self._state.text(self._old):
            self._state.report.add(Topic.SHORT, self._old)

    def _report_taken_out(self, merged: Merged) -> None:
        for each in merged.taken_out:
            self._state.report.add(
                Topic.LOOK, f"{self._old}: you had taken out `{each}`; the kit has it"
            )

    def _elsewhere(self, context: Context, old: Piece, piece: Piece) -> bool:
        for path, found, text in self._places(context, old):
            lines = text.split("\n")
            indent = len(lines[found.start]) - len(lines[found.start].lstrip())
            merged = merge_pieces(old.dedented_to(indent), piece.dedented_to(indent), found)
            lines[found.start : found.end] = merged.text.rstrip("\n").split("\n")
            base, edited = self._state.rewritten(self._old, inside=dotted(path))
            whole = self._complete("\n".join(lines), base, edited, inside=dotted(path))
            self._state.put_merged(path, whole, self._old)
            if not merged.has_conflicts:
                self._state.report.add(Topic.KIT, f"{path}: {_title(piece)} (from {self._old})")
            return True
        return False

    def _places(self, context: Context, old: Piece) -> Iterator[tuple[str, Piece, str]]:
        """Pieces of the kit that are what a piece of the base was."""
        outer = context[0] if context else old
        for path in self._files(outer):
            text = self._state.text(path)
            found = _located(text, [each.key for each in context], old)
            if found is not None and (dotted(path) == self._target or old.likeness(found) > ALIKE):
                yield path, found, text
        if not context and (target := self._path(self._target)):
            text = self._state.text(target)
            yield from ((target, found, text) for found in _methods(text) if found.key == old.key)
        if context and context[0].is_definition:
            yield from self._in_functions(old)

    def _files(self, piece: Piece) -> list[str]:
        target = [self._target] if self._target else []
        if piece.key[0] in {"definition", "value"}:
            modules = self._names.defining(self._target, piece.key[1])
        else:
            modules = target
        return [path for module in modules if (path := self._path(module)) is not None]

    def _path(self, module: str) -> str | None:
        stem = module.replace(".", "/")
        return next(
            (path for path in (f"{stem}.py", f"{stem}/__init__.py") if path in self._state.new),
            None,
        )

    def _in_functions(self, old: Piece) -> Iterator[tuple[str, Piece, str]]:
        """A statement that has moved from one function into another one's body."""
        for path in self._state.new:
            if not path.startswith("kit/") or not path.endswith(".py"):
                continue
            text = self._state.text(path)
            if has_markers(text):
                continue
            lines = text.split("\n")
            for function in pieces_of_module(text):
                if isinstance(function.node, ast.FunctionDef | ast.AsyncFunctionDef):
                    for piece in pieces_inside(function.node, lines) or []:
                        if piece.dedented_to(0).lines == old.dedented_to(0).lines:
                            yield path, piece, text

    def _complete(self, text: str, base: str, edited: str, *, inside: str = "") -> str:
        """Add the imports, and the small definitions, that the edits need in a module."""
        unused = set(own_imports(base, edited)) - names_used(ast.parse(edited))
        stays = not inside or inside == self._target
        text = self._add_names(text, unused if stays else set(), edited, inside)
        wanted: set[str] = set()
        while missing := missing_names(text) - wanted:
            wanted |= missing
            text = self._add_names(text, missing, edited, inside)
        return text

    def _add_names(self, text: str, names: set[str], edited: str, inside: str) -> str:
        tree = ast.parse(edited)
        imports, definitions = imported(tree), defined(tree)
        statements: list[str] = []
        copied: list[str] = []
        for name in sorted(names):
            if name in imports:
                statements.append(imports[name])
            elif name in definitions:
                self._import_definition(name, edited, inside, statements, copied)
        if inside:
            statements = [each for each in statements if not each.startswith(f"from {inside} ")]
        text = add_imports(text, statements)
        return _below_imports(text, copied) if copied else text

    def _import_definition(
        self, name: str, edited: str, inside: str, statements: list[str], copied: list[str]
    ) -> None:
        """Make a name known that the module of the old release defined itself."""
        module = dotted(self._old)
        piece = next(each for each in pieces_of_module(edited) if name in _defines(each))
        if "getLogger(__name__)" in piece.text:
            copied.append(piece.text)
            return
        if inside:
            place = self._names.inner_place(self._target or inside, name)
        else:
            found = self._names.place(module, name)
            if found is None:
                copied.append(piece.text)
                return
            place = found
        if not place.is_found:
            copied.append(piece.text)
        elif place.module != inside:
            statement = f"from {place.module} import {place.name}"
            statements.append(statement if place.name == name else f"{statement} as {name}")
            if place.is_private and not inside:
                self._state.report.add(
                    Topic.LOOK,
                    f"{self._old} imports {name} from {place.module}, which is private",
                )


def _defines(piece: Piece) -> set[str]:
    return defined(ast.Module([piece.node], [])) if isinstance(piece.node, ast.stmt) else set()


def _title(piece: Piece) -> str:
    if piece.key[0] == "comment":
        return "a comment"
    return piece.key[1].partition("\n")[0]


def _located(text: str, context: list[tuple[str, str, int]], old: Piece) -> Piece | None:
    """The piece of a module with the same name, inside of the same ones."""
    if has_markers(text):
        return None
    lines = text.rstrip("\n").split("\n")
    pieces: list[Piece] | None = pieces_of_module(text)
    for key in context:
        outer = next((each for each in pieces or [] if each.key == key), None)
        if outer is None or outer.node is None:
            return None
        pieces = pieces_inside(outer.node, lines)
    return next((each for each in pieces or [] if each.key == old.key), None)


def _methods(text: str) -> Iterator[Piece]:
    """Members of a module's classes, which may have been functions of its own."""
    if has_markers(text):
        return
    lines = text.rstrip("\n").split("\n")
    for piece in pieces_of_module(text):
        if isinstance(piece.node, ast.ClassDef):
            yield from pieces_inside(piece.node, lines) or []


def _below_imports(text: str, definitions: list[str]) -> str:
    """Put definitions below the import statements at the top of a module."""
    lines = text.split("\n")
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return text
    at = 0
    for node in body:
        if not isinstance(node, ast.Import | ast.ImportFrom) and at:
            break
        if isinstance(node, ast.Import | ast.ImportFrom):
            at = node.end_lineno or at
    new = "\n".join(definitions).rstrip("\n").split("\n")
    return "\n".join([*lines[:at], "", *new, *lines[at:]])
