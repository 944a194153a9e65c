"""Copies and updates in a fraction of the time, for those who make thousands of them.

What is left out is what Copier does again and again with the same result. That nothing but the time
differs is held by `test_fast_rendering_gives_the_same`, `test_a_fast_update_gives_the_same` and
`test_a_fast_update_with_a_script_gives_the_same`.
"""

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from copier import _main, _template, _user_data, _vcs
from copier._cli import CopierApp
from jinja2 import Environment
from plumbum import local

from tests.kept_renderings.copier.__main__ import KEPT

_SHARED = Path("/dev/shm")  # noqa: S108 (folders in it get random names)
MEMORY = _SHARED if os.access(_SHARED, os.W_OK) else None
"""Where Linux keeps files in memory, for small ones that come and go by the thousand."""

_COPIER_FOR_SCRIPTS = str(Path(__file__).parent / "kept_renderings")
_TEMPORARY = tempfile.gettempdir()  # which a test may change for itself


@contextmanager
def fast_copier() -> Iterator[None]:
    """While it is open, Copier reads, compiles and clones the same thing once.

    Nor does it ask git about the executable bit of each file, of no interest in a folder that is no
    repository, or whether a folder is a bundle or a repository without `.git`; nor does it render a
    text that holds no template, or collect the answers anew for each that does. YAML is read by
    libyaml. All environments of Jinja have the same options here, so a compiled text is good for
    all. The template's scripts render each release once.
    """
    worker = _main.Worker
    with (
        patch.object(worker, "_sync_git_index_executable_bit", lambda *_arguments: None),
        patch.object(worker, "_render_string", _render_where_needed),
        patch.object(_user_data.Question, "render_value", _render_value_where_needed),
        patch.object(worker, "_render_template", _render_in_one_context),
        patch.object(worker, "_execute_tasks", _execute_with_kept_renderings),
        patch.object(worker, "_path_matcher", lambda _worker, patterns: _matcher(tuple(patterns))),
        patch.object(worker, "answers_relpath", property(_answers_relpath)),
        patch.object(_vcs, "is_git_bundle", lambda path: path.is_file() and _is_bundle(path)),
        patch.object(
            _vcs, "is_git_repo_root", lambda path: (path / ".git").exists() and _is_root(path)
        ),
        patch.object(yaml, "safe_load", partial(yaml.load, Loader=yaml.CSafeLoader)),
        patch.object(_template, "clone", _clone_once),
        patch.object(_template, "load_template_config", _load_once),
        patch.object(Environment, "compile", _compile_once),
    ):
        yield


_render_string = _main.Worker._render_string  # noqa: SLF001
_render_template = _main.Worker._render_template  # noqa: SLF001
_path_matcher = _main.Worker._path_matcher  # noqa: SLF001
_execute_tasks = _main.Worker._execute_tasks  # noqa: SLF001
_render_value = _user_data.Question.render_value
_is_bundle = _vcs.is_git_bundle
_is_root = _vcs.is_git_repo_root
_clone = _vcs.clone
_load = _template.load_template_config
_compile = Environment.compile
_clones: dict[tuple[str, str, str], str] = {}
_loaded: dict[bytes, dict[str, Any]] = {}
_compiled: dict[Any, Any] = {}


def _render_where_needed(worker: Any, string: Any, extra_context: Any = None) -> str:  # noqa: ANN401
    if isinstance(string, str) and "{" not in string:
        return string
    return _render_string(worker, string, extra_context)


def _render_value_where_needed(question: Any, value: Any, extra_answers: Any = None) -> Any:  # noqa: ANN401
    if not isinstance(value, str | list) or (isinstance(value, str) and "{" not in value):
        return value
    return _render_value(question, value, extra_answers)


def _render_in_one_context(worker: Any) -> None:  # noqa: ANN401
    """No file of a template changes an answer."""
    context = worker._render_context()  # noqa: SLF001
    with patch.object(_main.Worker, "_render_context", lambda _worker: context):
        _render_template(worker)


def _execute_with_kept_renderings(worker: Any, tasks: Any) -> None:  # noqa: ANN401
    with local.env(PYTHONPATH=_COPIER_FOR_SCRIPTS, **{KEPT: _folder_of_clones()}):
        _execute_tasks(worker, tasks)


@cache
def _matcher(patterns: tuple[str, ...]) -> Callable[[Path], bool]:
    no_worker: Any = None  # which would not be looked at
    return _path_matcher(no_worker, patterns)


def _answers_relpath(worker: Any) -> Path:  # noqa: ANN401 (no name of ours is a template)
    return Path(worker.answers_file or worker.template.answers_relpath)


def _clone_once(url: str, ref: str = "HEAD", location: str | None = None) -> str:
    """Clone each commit of each template once; Copier only reads the clones."""
    listed = subprocess.run(
        ["git", "-C", url, "show-ref", "--head"], check=False, capture_output=True, text=True
    )
    if listed.returncode or ref == "HEAD":  # no local folder, or uncommitted changes count
        return _clone(url, ref, location)
    if location:  # made for the clone, and taken away with it
        Path(location).rmdir()
    key = (url, ref, listed.stdout)
    if key not in _clones:
        _clones[key] = _clone(url, ref, tempfile.mkdtemp(dir=_folder_of_clones()))
    return _clones[key]


@cache
def _folder_of_clones() -> str:
    folder = tempfile.mkdtemp(prefix="clones-of-templates-", dir=_TEMPORARY)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _load_once(path: Path, quiet: bool = False) -> dict[str, Any]:  # noqa: FBT002
    key = path.read_bytes()
    if key not in _loaded:
        _loaded[key] = _load(path, quiet)
    return deepcopy(_loaded[key])


def _compile_once(environment: Environment, source: Any, *arguments: Any) -> Any:  # noqa: ANN401
    if not isinstance(source, str):
        return _compile(environment, source, *arguments)
    key = (source, *arguments)
    if key not in _compiled:
        _compiled[key] = _compile(environment, source, *arguments)
    return _compiled[key]


def part_that_answers_reach(template: Path, destination: Path) -> Path:
    """A template of those files alone whose content, or presence, answers decide about.

    All others are copied as they are. Of an extension, whose folder is there or not, its first file
    stands for the rest.

    Args:
        template: a template without git, as Copier reads it.
        destination: where its part goes.
    """
    wanted = [
        "copier.yml",
        "hooks/*.txt",
        "template/**/*.jinja",
        "extensions_catalog/*/__init__.py",
    ]
    for path in chain.from_iterable(template.glob(pattern) for pattern in wanted):
        target = destination / path.relative_to(template)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    link = Path("template/app/extensions")
    (destination / link).parent.mkdir(parents=True, exist_ok=True)
    (destination / link).symlink_to((template / link).readlink())
    return destination


if __name__ == "__main__":
    with fast_copier():
        CopierApp.run()
