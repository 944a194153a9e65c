"""Copies of the template in a fraction of the time, for those who make thousands of them.

`test_fast_rendering_gives_the_same` holds that nothing but the time differs.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import patch

from copier import _template, _vcs
from jinja2 import Environment


@contextmanager
def fast_copier() -> Iterator[None]:
    """While it is open, Copier reads a text once, and asks git nothing that is known without it.

    An executable bit in git's index is of no interest in a folder that is no repository; a folder
    is no bundle of git. All environments of Jinja have the same options here, so that a compiled
    text is good for all of them.
    """
    with (
        patch("copier._main.Worker._sync_git_index_executable_bit", lambda *_arguments: None),
        patch.object(_vcs, "is_git_bundle", lambda path: path.is_file() and _is_bundle(path)),
        patch.object(Environment, "compile", _compile_once),
        patch.object(_template, "load_template_config", _load_once),
    ):
        yield


_is_bundle = _vcs.is_git_bundle
_compile = Environment.compile
_compiled: dict[Any, Any] = {}


def _compile_once(environment: Environment, source: Any, *arguments: Any) -> Any:  # noqa: ANN401
    if not isinstance(source, str):
        return _compile(environment, source, *arguments)
    key = (source, *arguments)
    if key not in _compiled:
        _compiled[key] = _compile(environment, source, *arguments)
    return _compiled[key]


_load = _template.load_template_config
_loaded: dict[bytes, dict[str, Any]] = {}


def _load_once(path: Path, quiet: bool = False) -> dict[str, Any]:  # noqa: FBT002
    key = path.read_bytes()
    if key not in _loaded:
        _loaded[key] = _load(path, quiet)
    return deepcopy(_loaded[key])


def part_that_answers_reach(template: Path, destination: Path) -> Path:
    """A template of those files alone whose content, or presence, answers decide about.

    All others are copied as they are. Of an extension, whose folder is there or not, its first file
    stands for the rest.

    Args:
        template: a template without git, as Copier reads it.
        destination: where its part goes.
    """
    wanted = ["copier.yml", "hooks/*", "template/**/*.jinja", "extensions_catalog/*/__init__.py"]
    for path in chain.from_iterable(template.glob(pattern) for pattern in wanted):
        target = destination / path.relative_to(template)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    link = Path("template/app/extensions")
    (destination / link).parent.mkdir(parents=True, exist_ok=True)
    (destination / link).symlink_to((template / link).readlink())
    return destination
