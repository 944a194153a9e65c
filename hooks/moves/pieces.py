"""Code taken apart into pieces: a statement, a member or an entry, with the comments above it."""

import ast
from collections import Counter
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


ALIKE = 0.5
"""More than this share of their lines is in both of two pieces that are the same one."""


@dataclass(frozen=True)
class Piece:
    """A part of a module.

    Args:
        key: what it is known by, in another version too.
        lines: its text.
        start: index of its first line, in the whole.
        end: index of the line after its last.
        gap: empty lines above it.
        node: its syntax; `None` for comments at an end.
    """

    key: tuple[str, str, int]
    lines: tuple[str, ...]
    start: int
    end: int
    gap: int
    node: ast.AST | None

    @property
    def text(self) -> str:
        """Its lines as one text."""
        return "\n".join(self.lines) + "\n"

    @property
    def described(self) -> tuple[str, str]:
        """A name's value and its description, as two texts; all else is the first."""
        at = len(self.lines)
        if isinstance(self.node, ast.Assign | ast.AnnAssign):
            at = (self.node.end_lineno or 0) - self.start
        value, description = self.lines[:at], self.lines[at:]
        return "".join(f"{x}\n" for x in value), "".join(f"{x}\n" for x in description)

    @property
    def is_import(self) -> bool:
        """Whether it is an import statement."""
        return isinstance(self.node, ast.Import | ast.ImportFrom)

    @property
    def is_definition(self) -> bool:
        """Whether it is a function or a class."""
        return isinstance(self.node, DEFINITIONS)

    @property
    def is_field(self) -> bool:
        """Whether it gives a value to a name."""
        return isinstance(self.node, ast.Assign | ast.AnnAssign)

    @property
    def is_docstring(self) -> bool:
        """Whether it is the docstring of what it stands in."""
        return self.key[0] == "docstring"

    def likeness(self, other: "Piece") -> float:
        """The share of lines that are in both pieces."""
        return SequenceMatcher(None, self.lines, other.lines).ratio()

    def dedented_to(self, indent: int) -> "Piece":
        """The same piece with another indentation."""
        own = min((len(x) - len(x.lstrip()) for x in self.lines if x.strip()), default=0)
        lines = tuple((" " * indent + x[own:]) if x.strip() else "" for x in self.lines)
        return replace(self, lines=lines)


def key_of(node: ast.AST) -> tuple[str, str]:
    """What a statement is known by."""
    if isinstance(node, DEFINITIONS):
        return "definition", node.name
    if isinstance(node, ast.Assign):
        return "value", ", ".join(map(ast.unparse, node.targets))
    if isinstance(node, ast.AnnAssign):
        return "value", ast.unparse(node.target)
    if isinstance(node, ast.Import | ast.ImportFrom):
        return "import", ast.unparse(node)
    if isinstance(node, ast.With | ast.AsyncWith | ast.For | ast.AsyncFor | ast.If | ast.While):
        return type(node).__name__, ast.unparse(node).partition("\n")[0]
    return "statement", ast.unparse(node)


def pieces_of_module(text: str) -> list[Piece]:
    """The statements of a module, and comments at its end."""
    lines = text.rstrip("\n").split("\n")
    return _pieces(ast.parse(text).body, lines, 0, len(lines))


def pieces_inside(node: ast.AST | None, lines: list[str]) -> list[Piece] | None:
    """What can be merged one by one inside of a statement; `None` for others.

    Args:
        node: a class, a function, or a name's value that is a dictionary or a list.
        lines: of the whole module.
    """
    if isinstance(node, DEFINITIONS):
        body = innermost(node.body)
        first = min([body[0].lineno, *(x.lineno for x in getattr(body[0], "decorator_list", []))])
        return _pieces(body, lines, _floor(lines, first - 1, node.lineno), node.end_lineno or 0)
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        return _entries(node.value, lines)
    return None


def innermost(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements inside of a body that is nothing but `with`, beside its docstring."""
    rest = [node for node in body if not _is_text(node)]
    while len(rest) == 1 and isinstance(rest[0], ast.With | ast.AsyncWith):
        rest = body = rest[0].body
    return body


def _floor(lines: list[str], at: int, lowest: int) -> int:
    """The first line of the comments right above a line."""
    while at > lowest and lines[at - 1].strip().startswith("#"):
        at -= 1
    return at


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _pieces(body: list[ast.stmt], lines: list[str], at: int, end: int) -> list[Piece]:
    found: list[Piece] = []
    count: Counter[tuple[str, str]] = Counter()
    for index, node in enumerate(body):
        last = node.end_lineno or node.lineno
        if _is_text(node) and index and found and found[-1].is_field:
            # The description of the name above it.
            previous = found.pop()
            found.append(replace(previous, lines=tuple(lines[previous.start : last]), end=last))
            at = last
            continue
        key = ("docstring", "") if _is_text(node) and not index else key_of(node)
        found.append(_piece((*key, count[key]), lines, at, last, node))
        count[key] += 1
        at = last
    if any(line.strip() for line in lines[at:end]):
        text = "\n".join(line for line in lines[at:end] if line.strip())
        found.append(_piece(("comment", text, 0), lines, at, end, None))
    return found


def _piece(
    key: tuple[str, str, int], lines: list[str], at: int, end: int, node: ast.AST | None
) -> Piece:
    start = at
    while start < end and not lines[start].strip():
        start += 1
    while end > start and not lines[end - 1].strip():
        end -= 1
    return Piece(key, tuple(lines[start:end]), start, end, start - at, node)


def _entries(value: ast.expr, lines: list[str]) -> list[Piece] | None:
    """Entries of a dictionary or a list that is written over several lines, or is empty."""
    if isinstance(value, ast.Dict):
        nodes = [(key or item, item) for key, item in zip(value.keys, value.values, strict=True)]
    elif isinstance(value, ast.List | ast.Set | ast.Tuple):
        nodes = [(item, item) for item in value.elts]
    else:
        return None
    found: list[Piece] = []
    at = value.lineno
    for first, item in nodes:
        end = item.end_lineno or item.lineno
        if first.lineno - 1 < at:
            return None  # two on a line
        found.append(_piece(("entry", ast.unparse(first), 0), lines, at, end, item))
        at = end
    return found
