"""The extensions of the catalogue in projects that chose them: alone, together, taken away.

One environment holds what all of them need, so that no project has to install it anew; that each
gets what it needs, and no more, is asked of `pyproject.toml`.
"""

import json
import tomllib
from pathlib import Path

import pytest

from tests.combinations import REPOSITORY, configuration
from tests.conftest import commit_all, copy_template
from tests.service import Service, cache_of_uv

CATALOGUE = list(configuration()["extension_catalogue"]["default"])
SELECTIONS = {  # none at all is what tests/test_service.py runs
    **{name: [name] for name in CATALOGUE},
    "all": CATALOGUE,
    **{f"all-but-{name}": [each for each in CATALOGUE if each != name] for name in CATALOGUE},
}

pytestmark = [pytest.mark.usefixtures("fast_copier"), pytest.mark.xdist_group("extensions")]

ASK_THE_SERVICE = """
import json
from app.main import app
print(json.dumps([group["name"] for group in app.openapi()["x-tagGroups"]]))
"""


@pytest.fixture(scope="session")
def everything(template: Path, service_folder: Path) -> Service:
    """A project with every extension, whose environment serves all others."""
    project = copy_template(template, service_folder / "everything", extensions=CATALOGUE)
    commit_all(project, "Start")
    service = Service(project, {"UV_CACHE_DIR": cache_of_uv()})
    service.make("setup")
    return service


def in_environment_of(everything: Service, project: Path) -> Service:
    """A project that runs with what is installed for all extensions, and knows their types."""
    shared = {
        "UV_PROJECT_ENVIRONMENT": str(everything.folder / ".venv"),
        "UV_NO_SYNC": "1",
        "MYPY_CACHE_DIR": str(everything.folder / ".mypy_cache"),
    }
    return Service(project, everything.environment | shared)


def test_the_catalogue_is_the_folder_and_every_extension_has_the_same_files() -> None:
    folders = {path.parent.name: path.parent for path in extension_files("__init__.py")}
    assert set(folders) == {"_example", *CATALOGUE}
    for name in ("README.md", "models.py", "settings.py", "api/__init__.py", "admin/views.py"):
        assert {path for path in folders if not (folders[path] / name).exists()} == set(), name
    for name in ("tasks/schedules.py", "tests", "migrations"):
        assert {path for path in folders if not (folders[path] / name).exists()} == set(), name
    listening = {path for path in folders if (folders[path] / "message_handlers.py").exists()}
    # These tell others what happens, and want to know of nothing.
    assert set(folders) - listening == {"accounts", "hotel"}


def extension_files(name: str) -> list[Path]:
    return sorted((REPOSITORY / "extensions_catalog").glob(f"*/{name}"))


@pytest.mark.full
@pytest.mark.parametrize("chosen", SELECTIONS.values(), ids=SELECTIONS)
def test_a_selection_works(
    template: Path, service_folder: Path, everything: Service, chosen: list[str]
) -> None:
    name = "-".join(["chosen", *(each[:3] for each in chosen)])
    project = copy_template(template, service_folder / name, extensions=chosen)
    service = in_environment_of(everything, project)

    service.make("lint", "typecheck", "test")

    python = str(everything.folder / ".venv" / "bin" / "python")
    groups = json.loads(service.run(python, "-c", ASK_THE_SERVICE).splitlines()[-1])
    titles = {name: name.title() for name in CATALOGUE}
    assert set(groups) == {"Core", *(titles[each] for each in chosen)}


@pytest.mark.parametrize("name", CATALOGUE)
def test_its_dependencies_come_and_go_with_it(template: Path, tmp_path: Path, name: str) -> None:
    def dependencies(project: Path) -> set[str]:
        document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        return {*document["project"]["dependencies"], *document["dependency-groups"]["dev"]}

    without = dependencies(copy_template(template, tmp_path / "without"))
    with_it = dependencies(copy_template(template, tmp_path / "with", extensions=[name]))
    everything = dependencies(copy_template(template, tmp_path / "all", extensions=CATALOGUE))
    assert without <= with_it <= everything
