"""The tests of this repository and of what it renders, by name: documents refer to them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

FOLDERS = ("tests", "template/tests", "extensions_catalog")
"""The kit's are in `tests/kit`."""

RENDERED = ("tests/kit/", "template/", "extensions_catalog/")
"""Where those stand that run in a rendered service."""


@cache
def named_tests() -> frozenset[str]:
    """Every test as `path::name` or `path::Class::name`, without its parameters."""
    return frozenset(name for folder in FOLDERS for name in _tests_below(REPOSITORY / folder))


def _tests_below(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("test_*.py")):
        relative = path.relative_to(REPOSITORY).as_posix()
        for name in _tests_in(ast.parse(path.read_text(encoding="utf-8")).body):
            yield f"{relative}::{name}"


def _tests_in(statements: list[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            if statement.name.startswith("test_"):
                yield statement.name
        elif isinstance(statement, ast.ClassDef) and statement.name.startswith("Test"):
            yield from (f"{statement.name}::{name}" for name in _tests_in(statement.body))
