"""The catalogue: what a project holds of an extension when it is chosen, and when it is not.

Rehearsed with `harbour`, an extension that the catalogue of these tests has besides its own.
"""

import re
import tomllib
from pathlib import Path

import pytest

from tests.combinations import catalogue
from tests.conftest import Render, copy_template
from tests.rendered import check_dependencies, dependencies_of, files, texts
from tests.repositories import commit_all, git
from tests.test_update import update

pytestmark = pytest.mark.usefixtures("fast_copier")

FILES = {
    "__init__.py": '"""Ships."""\n',
    "README.md": "# Harbour\n\nShips and their berths.\n",
    "settings.py": '"""Its settings, `HARBOUR_...`."""\n',
    ".env.example": "# --- Harbour ---\n\n# Ships that find room.\n#HARBOUR_BERTHS=3\n",
    "tests/test_settings.py": "def test_harbour() -> None: ...\n",
}


@pytest.fixture(scope="module")
def stocked(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template whose release v0.2.0 brings the extension, as adding one is described."""
    folder = tmp_path_factory.mktemp("stocked") / "groundwork"
    git(template.parent, "clone", "--quiet", str(template), str(folder))
    for name, text in FILES.items():
        path = folder / "extensions_catalog" / "harbour" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    insert(
        folder / "copier.yml",
        r"(?<=^extension_catalogue:\n  type: yaml\n  when: false\n  default:)( \{\})?",
        "\n    harbour: ships and their berths",
    )
    condition, end = "{% if 'harbour' in extensions %}\n", "{% endif %}\n"
    insert(
        folder / "template" / "pyproject.toml.jinja",
        r"(?=^    \"itsdangerous)",
        f'{condition}    "harbour-client>=1.0",\n{end}',
    )
    commit_all(folder, "Release v0.2.0")
    git(folder, "tag", "v0.2.0")
    return folder


def insert(path: Path, place: str, text: str) -> None:
    changed, count = re.subn(
        place, lambda _: text, path.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE
    )
    assert count == 1
    path.write_text(changed, encoding="utf-8")


def lines_that_name_it(project: Path) -> list[str]:
    """`file: line`, but for what its own folder holds."""
    return [
        f"{path}: {line}"
        for path, text in texts(project)
        if not path.is_relative_to("app/extensions/harbour")
        for line in text.splitlines()
        if "harbour" in line.lower()
    ]


def test_what_is_not_in_it_is_refused_with_what_is(stocked: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'port' is not in \[.*'harbour'"):
        copy_template(stocked, tmp_path / "project", extensions=["port"])


def test_one_that_is_chosen_is_there_and_enabled(stocked: Path, tmp_path: Path) -> None:
    project = copy_template(stocked, tmp_path / "project", extensions=["harbour"])
    for name, text in FILES.items():
        assert (project / "app/extensions/harbour" / name).read_text(encoding="utf-8") == text
    assert lines_that_name_it(project) == [
        ".copier-answers.yml: - harbour",
        'pyproject.toml:     "harbour-client>=1.0",',
        'pyproject.toml:     "harbour",',
    ]
    check_dependencies(project)


def test_one_that_is_not_chosen_is_named_nowhere(stocked: Path, tmp_path: Path) -> None:
    project = copy_template(stocked, tmp_path / "project", extensions=catalogue())
    assert lines_that_name_it(project) == []
    assert [path for path in files(project) if "harbour" in str(path)] == []


class TestUpdate:
    """A project with an extension of its owner's own takes it up, and gives it back."""

    @pytest.fixture
    def project(self, stocked: Path, tmp_path: Path) -> Path:
        project = copy_template(stocked, tmp_path / "project", release="v0.1.0")
        edit = (project / "pyproject.toml").read_text(encoding="utf-8")
        edit = edit.replace("\ndependencies = []", '\ndependencies = ["itsours>=1.0"]')
        edit = edit.replace("enabled_extensions = [\n", 'enabled_extensions = [\n    "loyalty",\n')
        (project / "pyproject.toml").write_text(edit, encoding="utf-8")
        commit_all(project, "Work")
        update(project, extensions=["harbour"])
        return project

    def test_one_that_is_chosen_later_arrives(self, project: Path) -> None:
        assert git(project, "diff", "--name-only", "--diff-filter=U") == ""
        document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        assert document["tool"]["service"]["enabled_extensions"] == ["loyalty", "harbour"]
        assert document["project"]["dependencies"] == ["itsours>=1.0"]
        assert "harbour-client>=1.0" in document["dependency-groups"]["kit"]
        assert (project / "app/extensions/harbour/tests/test_settings.py").exists()

    def test_one_that_is_given_back_leaves_its_owner_s_files_alone(
        self, project: Path, stocked: Path, tmp_path: Path
    ) -> None:
        own = Path("app/extensions/harbour/services.py")
        (project / own).write_text("OURS = True\n", encoding="utf-8")
        commit_all(project, "Work")
        update(project, extensions=[])
        assert git(project, "diff", "--name-only", "--diff-filter=U") == ""
        assert lines_that_name_it(project) == []
        assert [path for path in files(project) if "harbour" in str(path)] == [own]
        fresh = copy_template(stocked, tmp_path / "fresh")
        changed = [
            str(path)
            for path in files(fresh)
            if (project / path).read_bytes() != (fresh / path).read_bytes()
        ]
        assert changed == ["pyproject.toml"]
        assert "itsours" in (project / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("extension", catalogue())
class TestEach:
    """What holds for each extension of the catalogue."""

    def test_all_but_one_name_it_nowhere_outside_of_code(
        self, render_fast: Render, template_without_git: Path, extension: str
    ) -> None:
        others = [name for name in catalogue() if name != extension]
        project = render_fast(extensions=others)
        rendered = [
            path
            for path in files(project)
            if not (template_without_git / "template" / path).exists()
        ]
        for path in rendered:
            text = (project / path).read_text(encoding="utf-8")
            assert not re.search(rf"\b{extension}(\b|_)", text, re.IGNORECASE), path

    def test_brings_the_same_dependencies_alone_and_with_others(
        self, render_fast: Render, extension: str
    ) -> None:
        others = [name for name in catalogue() if name != extension]
        everything = dependencies(render_fast("all", extensions=catalogue()))
        without = dependencies(render_fast("without", extensions=others))
        alone = dependencies(render_fast("alone", extensions=[extension]))
        assert without | alone == everything


def dependencies(project: Path) -> set[str]:
    return set(dependencies_of(project))
