"""How much a service is on its first day: a default one has no more files and lines than this."""

from pathlib import Path

from tests.conftest import Render
from tests.rendered import files

FILES = 196  # 6 of them are the rehearsal, which came later than the goal of 190
PYTHON_OF_THE_OWNER = 5_000
"""Lines outside of `kit/`, the skeleton of an extension and the tests included."""
PYTHON_OF_THE_KIT = 25_310
"""Lines in `kit/`: the rehearsal has 1,370 of them, what writes resources and lists 2,530, and
`kit.testing` and `kit.architecture`, for tests alone, 1,950."""


def lines_of_python(project: Path, *, kit: bool) -> int:
    """Lines of Python inside of `kit/`, or outside of it."""
    return sum(
        len((project / path).read_text(encoding="utf-8").splitlines())
        for path in files(project)
        if path.suffix == ".py" and (path.parts[0] == "kit") == kit
    )


def test_a_default_service_has_few_files(render_fast: Render) -> None:
    assert len(list(files(render_fast()))) <= FILES


def test_what_its_owner_reads_is_short(render_fast: Render) -> None:
    assert 500 < lines_of_python(render_fast(), kit=False) <= PYTHON_OF_THE_OWNER


def test_so_is_the_kit(render_fast: Render) -> None:
    assert 5_000 < lines_of_python(render_fast(), kit=True) <= PYTHON_OF_THE_KIT
