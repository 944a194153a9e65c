"""Updates in a fraction of the time: a walk makes dozens of them.

What is left out is what Copier does again and again with the same result: cloning a release,
reading its questions, and rendering texts that hold no Jinja. A test compares an update of the
plain command with one that goes this way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from copier import _main, _template, _vcs


@contextmanager
def fast_updates(folder: Path) -> Iterator[None]:
    """Have Copier, in this process, do each of these things once; clones are kept in the folder."""
    clone, read = _vcs.clone, cache(_template.load_template_config)
    render = _main.Worker._render_string  # noqa: SLF001
    clones: dict[tuple[str, str], str] = {}

    def clone_once(url: str, ref: str = "HEAD", location: str | None = None) -> str:
        if location:  # made for the clone, and taken away with it
            Path(location).rmdir()
        if (url, ref) not in clones:
            clones[url, ref] = clone(url, ref, mkdtemp(dir=folder))
        return clones[url, ref]

    def render_where_needed(worker: _main.Worker, text: Any, extra_context: Any = None) -> Any:  # noqa: ANN401
        if isinstance(text, str) and "{" not in text:
            return text
        return render(worker, text, extra_context)

    def answers_relpath(worker: _main.Worker) -> Path:
        return Path(worker.answers_file or worker.template.answers_relpath)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_template, "clone", clone_once)
        patch.setattr(_template, "load_template_config", lambda path: deepcopy(read(path)))
        patch.setattr(_main.Worker, "_render_string", render_where_needed)
        patch.setattr(_main.Worker, "answers_relpath", property(answers_relpath))
        yield
