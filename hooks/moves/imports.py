"""Import statements of a module: which there are, adding some, and keeping them out of a merge."""

import ast
import builtins
import re
import sys

from hooks.moves.names import defined, imported

LINE_LENGTH = 100
FIRST_PARTY = ("app", "kit", "tests")


def names_used(tree: ast.AST) -> set[str]:
    """Names that code reads."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    } | _quoted(tree)


def _quoted(tree: ast.AST) -> set[str]:
    """Names in annotations that are texts."""
    annotations = [
        node.annotation for node in ast.walk(tree) if isinstance(node, ast.arg | ast.AnnAssign)
    ] + [
        node.returns
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    found: set[str] = set()
    for annotation in filter(None, annotations):
        for node in ast.walk(annotation):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"[A-Za-z_]\w*", node.value))
    return found


def names_bound(tree: ast.Module) -> set[str]:
    """Names that a module has at its top, builtins included."""
    return defined(tree) | set(imported(tree)) | set(dir(builtins)) | {"__file__", "__name__"}


def add_imports(text: str, statements: list[str]) -> str:
    """Add import statements to a module, each where it belongs.

    Args:
        text: the module; it may have conflict markers.
        statements: of one name each, as `from app.core.config import settings`.
    """
    for statement in sorted(statements):
        text = _add_import(text, statement)
    return text


def _add_import(text: str, statement: str) -> str:
    lines = text.split("\n")
    blocks = _blocks(lines)
    if any(existing == statement for _, _, existing in blocks):
        return text
    for start, end, existing in blocks:
        if (
            statement.startswith("from ")
            and existing.partition(" import ")[0] == (statement.partition(" import ")[0])
        ):
            joined = _joined(existing, statement)
            if joined is not None:
                return "\n".join([*lines[:start], *joined, *lines[end:]])
            return text
    wanted = _order(statement)
    before = [block for block in blocks if _order(block[2]) < wanted]
    if before:
        at, group = before[-1][1], _order(before[-1][2])[0]
        following = [block for block in blocks if block[0] >= at]
        gap_before = [""] if group != wanted[0] else []
        is_last_of_group = bool(following) and _order(following[0][2])[0] != wanted[0]
        gap_after = [""] if is_last_of_group and lines[at : at + 1] != [""] else []
        return "\n".join([*lines[:at], *gap_before, statement, *gap_after, *lines[at:]])
    if blocks:
        at = blocks[0][0]
        gap = [""] if _order(blocks[0][2])[0] != wanted[0] else []
        return "\n".join([*lines[:at], statement, *gap, *lines[at:]])
    at = _end_of_docstring(text)
    gap = [""] if at else []
    return "\n".join(
        [*lines[:at], *gap, statement, *([] if lines[at : at + 1] == [""] else [""]), *lines[at:]]
    )


def _blocks(lines: list[str]) -> list[tuple[int, int, str]]:
    """Import statements at the margin: first line, line after the last, the statement on a line."""
    found, at = [], 0
    while at < len(lines):
        if re.match(r"(from [\w.]+ import |import \w)", lines[at]):
            end = at + 1
            if "(" in lines[at].partition("#")[0]:
                while ")" not in lines[end - 1].partition("#")[0] and end < len(lines):
                    end += 1
            whole = " ".join(lines[at:end])
            found.append((at, end, re.sub(r"\s+", " ", whole)))
            at = end
        else:
            at += 1
    return found


def _order(statement: str) -> tuple[int, bool, str]:
    """What import statements are sorted by: group, form, module."""
    is_from = statement.startswith("from ")
    module = statement.split()[1]
    root = module.split(".")[0]
    group = 0 if root in sys.stdlib_module_names else 2 if root in FIRST_PARTY else 1
    return group, is_from, module.lower()


def _joined(existing: str, statement: str) -> list[str] | None:
    """Both statements as one, which import from the same module; `None` where it has the name."""
    if "#" in existing:
        return [existing, statement] if "(" not in existing else None
    origin, _, listed = existing.partition(" import ")
    items = [item.strip() for item in listed.strip("() ").split(",") if item.strip()]
    item = statement.partition(" import ")[2].strip()
    if item in items:
        return None
    items = sorted([*items, item], key=_item_order)
    line = f"{origin} import {', '.join(items)}"
    if len(line) <= LINE_LENGTH:
        return [line]
    return [f"{origin} import (", *(f"    {each}," for each in items), ")"]


def _item_order(item: str) -> tuple[int, str]:
    """As Ruff sorts what is imported: constants, classes, others."""
    name = item.split(maxsplit=1)[0].lstrip("_")
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2), item


def _end_of_docstring(text: str) -> int:
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return 0
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return body[0].end_lineno or 0
    return 0


def with_imports_of(base: str, edited: str) -> str:
    """The edited module with the base's import statements, so that a merge meets no edit of them.

    Args:
        base: the module before the edits.
        edited: the module with them.

    Returns:
        The module; unchanged where its imports stand in other places than the base's.
    """
    runs, edited_runs = _runs(base), _runs(edited)
    if len(runs) != len(edited_runs):
        return edited
    lines, base_lines = edited.split("\n"), base.split("\n")
    for (start, end), (base_start, base_end) in reversed(list(zip(edited_runs, runs, strict=True))):
        lines[start:end] = base_lines[base_start:base_end]
    return "\n".join(lines)


def _runs(text: str) -> list[tuple[int, int]]:
    """Ranges of lines with nothing but import statements between other statements."""
    found: list[tuple[int, int]] = []
    was_import = False
    for node in ast.parse(text).body:
        is_import = isinstance(node, ast.Import | ast.ImportFrom)
        if is_import:
            end = node.end_lineno or node.lineno
            found[len(found) - was_import :] = [
                (found[-1][0] if was_import else node.lineno - 1, end)
            ]
        was_import = is_import
    return found


def own_imports(base: str, edited: str) -> dict[str, str]:
    """Names that the edited module imports and the base does not, with their statements."""
    before, after = imported(ast.parse(base)), imported(ast.parse(edited))
    return {name: line for name, line in after.items() if before.get(name) != line}


def missing_names(text: str) -> set[str]:
    """Names that a module reads and has neither imported nor defined anywhere.

    Args:
        text: the module. Of conflicts in it, the owner's side counts.
    """
    mine = re.sub(r"^=======\n.*?^>>>>>>> [^\n]*\n", "", text, flags=re.MULTILINE | re.DOTALL)
    mine = re.sub(r"^<<<<<<< [^\n]*\n", "", mine, flags=re.MULTILINE)
    try:
        tree = ast.parse(mine)
    except SyntaxError:
        return set()
    return names_used(tree) - names_bound(tree) - _local_names(tree)


def _local_names(tree: ast.Module) -> set[str]:
    """Names that are bound anywhere below the top of a module."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name):
            found |= set() if isinstance(node.ctx, ast.Load) else {node.id}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.ExceptHandler):
            found.add(node.name or "")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    return found
