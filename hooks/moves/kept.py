"""Tests of the kit and their helpers, which projects no longer have: which of them are kept."""

import ast
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from hooks.moves.state import State
from hooks.moves.trees import text_of


def keep_tests(state: State) -> None:
    """Keep tests of the kit that were edited, and the helpers that remaining tests need."""
    table = state.names.table
    gone = {
        path
        for path in state.base
        if path.startswith("tests/") or path in table.kit_tests
        if path in state.edited and path not in state.new and path not in table.testing
    }
    for path in gone:
        state.result.setdefault(path, None)
    for path in sorted(gone & table.kit_tests.keys()):
        if state.is_edited(path):
            state.keep(path, "the kit's, and you had edited it")
    waiting = list(_remaining(state))
    while waiting:
        user = waiting.pop()
        for path in _needed(state, user, gone):
            if state.result.get(path) is None:
                state.keep(path, f"{user} needs it")
                waiting.append(path)


def _remaining(state: State) -> Iterator[str]:
    """Modules outside of the kit that the project will have."""
    for path in sorted({**state.edited, **state.result}):
        content = state.result.get(path, state.edited.get(path))
        if content is not None and path.endswith(".py") and not path.startswith("kit/"):
            yield path


def _needed(state: State, user: str, gone: set[str]) -> Iterator[str]:
    """Files among those that are gone that a module imports or takes fixtures from."""
    text = text_of(state.result.get(user) or state.edited[user]) or ""
    for name in re.findall(r"\btests((?:\.\w+)+)", text):
        parts = name.strip(".").split(".")
        for length in range(len(parts), 0, -1):
            stem = "/".join(["tests", *parts[:length]])
            yield from {f"{stem}.py", f"{stem}/__init__.py"} & gone
    for match in re.finditer(
        r"^\s*from tests((?:\.\w+)*) import \(?([^)\n]+|[^)]+\))", text, re.MULTILINE
    ):
        folder = "/".join(["tests", *filter(None, match[1].split("."))])
        for name in re.findall(r"\w+", match[2]):
            yield from {f"{folder}/{name}.py"} & gone
    if user.startswith("tests/"):
        for parent in PurePosixPath(user).parents:
            path = f"{parent.as_posix()}/conftest.py"
            if (
                path in gone
                and path != user
                and _fixtures(state, path) & set(re.findall(r"\w+", text))
            ):
                yield path


def _fixtures(state: State, path: str) -> set[str]:
    try:
        tree = ast.parse(state.edited[path])
    except SyntaxError:
        return set()
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any("fixture" in ast.unparse(each) for each in node.decorator_list)
    }
