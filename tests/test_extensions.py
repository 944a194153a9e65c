"""The extensions of the catalogue in projects that chose them: alone, together, taken away.

One environment holds what all of them need, so that no project has to install it anew; that each
gets what it needs, and no more, is asked of `pyproject.toml`.
"""

import json
from pathlib import Path

import pytest

from tests.combinations import Answers, catalogue, identifier
from tests.conftest import copy_template
from tests.matrix import copy_command
from tests.rendered import dependencies_of
from tests.repositories import REPOSITORY
from tests.trees import Workshop, covering_trees

CATALOGUE = catalogue()
pytestmark = [pytest.mark.usefixtures("fast_copier"), pytest.mark.xdist_group("extensions")]

ASK_THE_SERVICE = """
import json
from app.main import app
print(json.dumps([group["name"] for group in app.openapi()["x-tagGroups"]]))
"""


@pytest.fixture(scope="session")
def workshop(template: Path, service_folder: Path) -> Workshop:
    """Where projects with whatever extensions are checked."""
    return Workshop(template, service_folder)


def test_the_catalogue_is_the_folder_and_every_extension_has_the_same_files() -> None:
    folders = {path.parent.name: path.parent for path in extension_files("__init__.py")}
    assert set(folders) == {"_example", *CATALOGUE}

    def without(name: str) -> set[str]:
        return {extension for extension, folder in folders.items() if not (folder / name).exists()}

    for name in ("README.md", "settings.py", "api/__init__.py", "tasks/__init__.py", "tests"):
        assert without(name) == set(), name
    # It shows what the service does, and keeps nothing.
    for name in ("models.py", "admin/views.py", "tasks/schedules.py", "migrations"):
        assert without(name) == {"telemetry"}, name
    # The others tell what happens, and want to know of nothing.
    assert without("message_handlers.py") == {"accounts", "hotel", "telemetry"}


def extension_files(name: str) -> list[Path]:
    return sorted((REPOSITORY / "extensions_catalog").glob(f"*/{name}"))


@pytest.mark.full
@pytest.mark.parametrize("answers", covering_trees(), ids=identifier)
def test_a_tree_works(workshop: Workshop, answers: Answers) -> None:
    """None, each alone, all but each, all; the other answers are spread over them.

    Extensions' own tests run where each is alone and where all are, the kit's where all are.
    """
    place = workshop.place("tree")
    chosen = len(answers["extensions"])
    # In one process, where starting several would take longer than the tests.
    arguments = ["--numprocesses", "0", "tests", *(["app/extensions"] if chosen == 1 else [])]
    if chosen == len(CATALOGUE):
        arguments = []
    assert workshop.check(answers, place, *arguments).failure == "", copy_command(answers)

    python = workshop.service_of(place / "project").run(workshop.python, "-c", ASK_THE_SERVICE)
    groups = json.loads(python.splitlines()[-1])
    assert set(groups) == {"Core", *(name.title() for name in answers["extensions"])}


@pytest.mark.parametrize("name", CATALOGUE)
def test_its_dependencies_come_and_go_with_it(template: Path, tmp_path: Path, name: str) -> None:
    def dependencies(folder: str, extensions: list[str]) -> set[str]:
        project = copy_template(template, tmp_path / folder, extensions=extensions)
        return set(dependencies_of(project))

    without, with_it = dependencies("without", []), dependencies("with", [name])
    assert without <= with_it <= dependencies("all", CATALOGUE)
