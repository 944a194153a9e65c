"""Copier without what costs time and changes nothing: a fraction of it for a copy or an update.

Left out are git's word on the executable bit of each file, rendering of names that hold no
template, compiling the same texts again, and a clone of the same release for each step of an
update. `test_fast_rendering_gives_the_same` and `test_a_fast_update_gives_the_same` hold that it
is safe.
"""

import atexit
import re
import shutil
import subprocess
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from copier import _main, _template, _vcs
from jinja2 import Environment

MEMORY = Path("/dev/shm")  # noqa: S108 (for what an update compares; elsewhere it is the disk)


def make_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the slow parts of Copier for one test."""
    worker = _main.Worker
    monkeypatch.setattr(worker, "_sync_git_index_executable_bit", lambda *_arguments: None)
    monkeypatch.setattr(worker, "_render_string", _render_where_needed)
    monkeypatch.setattr(worker, "answers_relpath", property(_plain_answers_relpath))
    monkeypatch.setattr(Environment, "compile", _compile_once)
    monkeypatch.setattr(_template, "clone", _clone_once)
    if MEMORY.is_dir():
        in_memory = partial(tempfile.TemporaryDirectory, dir=MEMORY)
        monkeypatch.setattr(_main, "TemporaryDirectory", in_memory)


_render_string = _main.Worker._render_string  # noqa: SLF001
_compile = Environment.compile
_clone = _vcs.clone
_compiled: dict[Any, Any] = {}
_clones: dict[tuple[str, str, str], str] = {}


def _render_where_needed(worker: Any, string: str, extra_context: Any = None) -> str:  # noqa: ANN401
    if re.search(r"\{[{%#]", string):
        return _render_string(worker, string, extra_context)
    return string


def _plain_answers_relpath(worker: Any) -> Path:  # noqa: ANN401
    return Path(worker.answers_file or worker.template.answers_relpath)


def _compile_once(environment: Environment, source: Any, *arguments: Any) -> Any:  # noqa: ANN401
    """Jinja's `compile`, remembering results: all environments have the same options."""
    if not isinstance(source, str):
        return _compile(environment, source, *arguments)
    key = (source, *arguments)
    if key not in _compiled:
        _compiled[key] = _compile(environment, source, *arguments)
    return _compiled[key]


def _clone_once(url: str, ref: str, location: str) -> str:
    """Clone each commit of each template once; Copier reads the clones alone."""
    listed = subprocess.run(
        ["git", "-C", url, "show-ref", "--head"], check=False, capture_output=True, text=True
    )
    key = (url, ref, listed.stdout)
    if listed.returncode or ref == "HEAD":  # no local folder, or uncommitted changes count
        return _clone(url, ref, location)
    if key not in _clones:
        kept = tempfile.mkdtemp(dir=_folder_of_clones())
        _clones[key] = _clone(url, ref, kept)
    return _clones[key]


@cache
def _folder_of_clones() -> str:
    folder = tempfile.mkdtemp(prefix="clones-of-templates-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
