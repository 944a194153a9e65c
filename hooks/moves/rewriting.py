"""Rewrite imports and names of the old release in code and texts."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

from hooks.moves.imports import add_imports, names_bound
from hooks.moves.names import Names, Place, face_of

LINE_LENGTH = 100
TEXTS = {
    ".cfg", ".conf", ".css", ".example", ".html", ".ini", ".j2", ".js", ".json", ".mako", ".md",
    ".mk", ".py", ".pyi", ".rst", ".service", ".sh", ".toml", ".txt", ".yaml", ".yml",
}  # fmt: skip
NAMED = {"Makefile", "Dockerfile", "Procfile", "justfile", ".dockerignore", ".gitattributes"}
PATCHING = re.compile(r"\b(setattr|delattr|patch|patch\.object|spy|stub)\b\s*\(")

Note = Callable[[int, str], None]
"""Takes a line's number and what to look at there."""


def is_text(path: str) -> bool:
    """Whether names are rewritten in a file, as far as its own name says."""
    name = PurePosixPath(path)
    return name.suffix in TEXTS or name.name in NAMED or name.name.startswith(".env")


class Rewriter:
    """Rewrites code and texts of the old release for the new one.

    Args:
        names: where they are now.
        note: is called for what somebody has to look at.
    """

    def __init__(self, names: Names, note: Note | None = None) -> None:
        """Compile what names look like."""
        self._names = names
        self._note = note or (lambda _line, _text: None)
        modules, folders = _any_of(names.modules), _any_of(names.table.folders)
        self._dotted = re.compile(rf"(?<![\w./-])({modules})(?:\.(\w+))?(?![\w/])")
        self._paths = names.table.paths
        self._files = re.compile(rf"(?<![\w/.])(\./)?({_any_of(self._paths)})(?!\w)")
        self._folders = re.compile(
            rf"(?<![\w/.-])(\./)?({folders})(?=/(?![\w.])|/?$)", re.MULTILINE
        )

    def rewrite(self, text: str, path: str, *, inside: str = "") -> str:
        """Rewrite a text.

        Args:
            text: of a file.
            path: of the file, in the old release.
            inside: the module of the kit that the file becomes, whose imports are private ones.
        """
        if path.endswith((".py", ".pyi")):
            try:
                text = self._rewrite_code(text, path, inside)
                return self.rewrite_words(text, _texts_in(text))
            except (SyntaxError, tokenize.TokenError):
                self._note(1, "is no valid Python; names in it were rewritten as in a text")
        elif not path.endswith(".md") and "devservices" in self._names.table.folders:
            text = _ARGUMENT.sub("kit", text)
        return self.rewrite_words(text)

    def rewrite_words(self, text: str, spans: list[tuple[int, int]] | None = None) -> str:
        """Rewrite dotted names and paths.

        Args:
            text: the whole.
            spans: the parts of it that are rewritten; all of it otherwise.
        """
        edits: list[tuple[int, int, str]] = []
        for start, end, word in self._words(text):
            if spans is None or any(first <= start < last for first, last in spans):
                edits.append((start, end, word))
        for start, end, word in sorted(edits, reverse=True):
            text = text[:start] + word + text[end:]
        return text

    def _words(self, text: str) -> Iterator[tuple[int, int, str]]:
        for found in self._dotted.finditer(text):
            yield (*found.span(), self._new_dotted(found, text))
        for found in self._files.finditer(text):
            yield (*found.span(), (found[1] or "") + self._new_path(found[2]))
        for found in self._folders.finditer(text):
            yield (*found.span(), (found[1] or "") + self._names.table.folders[found[2]])

    def _new_dotted(self, found: re.Match[str], text: str) -> str:
        module, name = found[1], found[2]
        if module.startswith("app.tasks."):
            return found[0]  # the name of a task, which is as it was
        before = text[max(0, found.start() - 60) : found.start()].rpartition("\n")[2]
        target = self._names.modules[module]
        if name is None:
            if module in self._names.short:
                return module
            # Run, or named alone in a string, as the logger of a module is.
            is_exact = text[found.start() - 1 : found.start()] in {'"', "'"} and (
                text[found.end() : found.end() + 1] in {'"', "'"}
            )
            is_exact = is_exact or before.rstrip().endswith("-m") or module.startswith("tests.")
            return target if is_exact else face_of(target)
        if PATCHING.search(before):
            return self._patched(found, text)
        place = self._names.place(module, name)
        if place is None or (not place.is_found and module in self._names.short):
            return found[0]
        return f"{place.module}.{place.name}"

    def _patched(self, found: re.Match[str], text: str) -> str:
        """Name what a test replaces in the module that looks it up, as it did before."""
        module, name = found[1], found[2]
        line = text.count("\n", 0, found.start()) + 1
        if module in self._names.short:
            self._note(line, f"replaces {found[0]}, which the kit may no longer look up there")
            return found[0]
        place = self._names.inner_place(self._names.modules[module], name)
        self._note(line, f"replaces {place.module}.{name}: does it still reach what it has to?")
        return f"{place.module}.{place.name}"

    def _new_path(self, path: str) -> str:
        return path if path in self._names.table.short else self._paths[path]

    def _rewrite_code(self, text: str, path: str, inside: str) -> str:
        tree = ast.parse(text)
        code = _Code(text, tree, package_of(path))
        edits = list(self._edits(code, inside))
        for start, end, replacement in sorted(edits, reverse=True):
            text = text[:start] + replacement + text[end:]
        return add_imports(text, sorted(set(code.needed)))

    def _edits(self, code: "_Code", inside: str) -> Iterator[tuple[int, int, str]]:
        bound: dict[str, str] = {}
        for node in ast.walk(code.tree):
            if isinstance(node, ast.ImportFrom):
                statements = self._import_from(code, node, inside, bound)
            elif isinstance(node, ast.Import):
                statements = self._import(code, node, bound)
            else:
                continue
            if statements is not None:
                yield (*code.span(node), code.formatted(node, statements))
        yield from self._attributes(code, bound, inside)
        for name, attribute, line in code.replaced:
            if name in bound and not inside:
                self._note(line, f"replaces {name}.{attribute}: does the kit look it up there?")

    def _import_from(
        self, code: "_Code", node: ast.ImportFrom, inside: str, bound: dict[str, str]
    ) -> list[str] | None:
        module = code.absolute(node)
        groups: dict[str, list[str]] = {}
        is_changed = False
        for alias in node.names:
            origin, item = module, ast.unparse(alias)
            place = self._new_place(code, module, alias, inside, bound)
            if place is not None and (place.module, place.name) != (module, alias.name):
                is_changed = True
                as_name = alias.asname or (alias.name if alias.name != "*" else place.name)
                origin = place.module
                item = place.name if place.name == as_name else f"{place.name} as {as_name}"
                self._note_place(node.lineno, place, inside)
            groups.setdefault(origin, []).append(item)
        if not is_changed:
            return None
        if node.level and module in groups:  # what does not move stays relative
            groups = {
                ("." * node.level + (node.module or "")) if k == module else k: v
                for k, v in groups.items()
            }
        return [_statement(origin, items, node.col_offset) for origin, items in groups.items()]

    def _new_place(
        self, code: "_Code", module: str, alias: ast.alias, inside: str, bound: dict[str, str]
    ) -> Place | None:
        whole = f"{module}.{alias.name}" if module else alias.name
        name = alias.asname or alias.name
        is_name = self._names.offers(face_of(self._names.modules.get(module, "")), alias.name)
        if self._names.is_moved(whole) and not is_name:
            return self._new_module(code, whole, name, bound)
        if not self._names.is_moved(module):
            return None
        if alias.name == "*":
            return None if module in self._names.short else Place(self._names.modules[module], "*")
        if inside:
            place = self._names.inner_place(self._names.modules[module], alias.name)
            return place if place.is_found or module not in self._names.packages else None
        return self._names.place(module, alias.name)

    def _new_module(
        self, code: "_Code", module: str, name: str, bound: dict[str, str]
    ) -> Place | None:
        """Where an imported module is now: its face, if that has what is used of it."""
        if module in self._names.short:
            bound[name] = module  # its attributes may have moved
            return None
        parent, _, last = self._chosen(code, module, name).rpartition(".")
        return Place(parent, last)

    def _chosen(self, code: "_Code", module: str, name: str) -> str:
        target, face = self._names.modules[module], face_of(self._names.modules[module])
        used = code.attributes.get(name, set())
        is_whole = all(self._names.offers(face, each) for each in used)
        is_patched = name in code.patched or module in code.patched
        return face if is_whole and not is_patched else target

    def _note_place(self, line: int, place: Place, inside: str) -> None:
        if inside:
            return
        if not place.is_found:
            self._note(line, f"{place.module}.{place.name} is not there any more")
        elif place.is_private:
            self._note(line, f"imports {place.name} from {place.module}, which is private")
        elif place.name.startswith("_") and not place.module.startswith("kit.testing"):
            self._note(line, f"imports {place.module}.{place.name}, which is private")

    def _import(self, code: "_Code", node: ast.Import, bound: dict[str, str]) -> list[str] | None:
        found, is_changed = [], False
        for alias in node.names:
            name, item = alias.name, f"import {ast.unparse(alias)}"
            if self._names.is_moved(name) and name not in self._names.short:
                is_changed = True
                if alias.asname or "." not in name:
                    as_name = alias.asname or name
                    parent, _, last = self._chosen(code, name, as_name).rpartition(".")
                    item = f"from {parent} import {last}"
                    item += "" if as_name == last else f" as {as_name}"
                else:
                    item = f"import {face_of(self._names.modules[name])}"
                    bound[name.split(".")[0]] = ""
            elif self._names.is_moved(name) and not alias.asname:
                bound[name.split(".")[0]] = ""
            found.append(" " * node.col_offset + item)
        return found if is_changed else None

    def _attributes(
        self, code: "_Code", bound: dict[str, str], inside: str
    ) -> Iterator[tuple[int, int, str]]:
        """Rewrite `app.core.errors.Problem`, and `database.ReadOnlySession` of a short file."""
        for node in ast.walk(code.tree):
            if not isinstance(node, ast.Attribute):
                continue
            root, _, rest = ast.unparse(node).partition(".")
            if root not in bound or not re.fullmatch(r"[\w.]+", rest):
                continue
            if not bound[root]:
                found = self._dotted.fullmatch(f"{root}.{rest}")
                if found and found[2]:
                    place = self._names.place(found[1], found[2])
                    if place is not None:
                        yield (*code.span(node), f"{place.module}.{place.name}")
            elif "." not in rest and (place := self._names.place(bound[root], rest)):
                if place.is_found and rest not in code.bound:
                    code.needed.append(f"from {place.module} import {place.name}")
                    yield (*code.span(node), place.name)
                elif not inside:
                    self._note(node.lineno, f"{root}.{rest} is {place.module}.{place.name} now")


def _any_of(words: Iterable[str]) -> str:
    """A pattern of each of them, and of nothing where there are none."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)"


_ARGUMENT = re.compile(r"(?<=[ \"'])devservices(?=[ \"']|$)", re.MULTILINE)
"""The folder as an argument of a command, as in `mypy app devservices tests`, or in a list."""


class _Code:
    """A module's text with its syntax tree."""

    def __init__(self, text: str, tree: ast.Module, package: str) -> None:
        self.tree = tree
        self._package = package
        self._lines = text.split("\n")
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self.needed: list[str] = []
        """Import statements that rewritten code needs besides its own."""
        self.bound = names_bound(tree)
        self.attributes: dict[str, set[str]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                self.attributes.setdefault(node.value.id, set()).add(node.attr)
        self.replaced = [
            (found[1], found[2], text.count("\n", 0, found.start()) + 1)
            for found in re.finditer(
                r"""(?:setattr|delattr|patch\.object)\(\s*(\w+),\s*["'](\w+)""", text
            )
        ]
        """Names whose attributes a test replaces, with the attributes and the lines."""
        self.patched = {name for name, _, _ in self.replaced} | {
            found[1]
            for found in re.finditer(r"""(?:setattr|delattr|patch)\(\s*["']([\w.]+)\.""", text)
        }
        """Names and modules in which a test replaces something."""

    def span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        """Where a node begins and ends in the text."""
        return (
            self._offset(node.lineno, node.col_offset),
            self._offset(node.end_lineno or node.lineno, node.end_col_offset or 0),
        )

    def offset(self, line: int, column: int) -> int:
        """Where a character of a line is in the text."""
        return self._starts[line - 1] + column

    def _offset(self, line: int, column: int) -> int:
        return self.offset(line, len(self._lines[line - 1].encode()[:column].decode()))

    def absolute(self, node: ast.ImportFrom) -> str:
        """The module that is imported from, with its package where it is a relative one."""
        if not node.level:
            return node.module or ""
        parts = self._package.split(".") if self._package else []
        kept = parts[: len(parts) - node.level + 1]
        return ".".join([*kept, *([node.module] if node.module else [])])

    def formatted(self, node: ast.Import | ast.ImportFrom, statements: list[str]) -> str:
        """The statements in place of another, with the comments in it."""
        start, end = self.span(node)
        inner = "\n".join(self._lines)[start:end]
        comments = re.findall(r"#[^\n]*", inner)
        line = self._lines[(node.end_lineno or node.lineno) - 1]
        trailing = line.encode()[node.end_col_offset or 0 :].decode().strip()
        if trailing.startswith("#"):  # stays behind the last one
            statements = [f"{x}  {trailing}" for x in statements[:-1]] + statements[-1:]
        text = "\n".join(statements).strip()
        if comments:
            first, *rest = text.split("\n")
            text = "\n".join([f"{first}  {' '.join(comments)}", *rest])
        return text


def _texts_in(code: str) -> list[tuple[int, int]]:
    """Where strings and comments are in code."""
    tree = ast.parse(code)
    place = _Code(code, tree, "")
    inner = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for child in ast.walk(node)
        if child is not node
    }
    strings = [
        place.span(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        if id(node) not in inner
    ]
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    comments = [
        (place.offset(*token.start), place.offset(*token.start) + len(token.string))
        for token in tokens
        if token.type == tokenize.COMMENT
    ]
    return strings + comments


def package_of(path: str) -> str:
    """The package that a file's relative imports begin at."""
    return ".".join(PurePosixPath(path).parent.parts)


def _statement(module: str, items: list[str], indent: int) -> str:
    margin = " " * indent
    line = f"{margin}from {module} import {', '.join(items)}"
    if len(line) <= LINE_LENGTH:
        return line
    return "\n".join(
        [f"{margin}from {module} import (", *(f"{margin}    {x}," for x in items), f"{margin})"]
    )
