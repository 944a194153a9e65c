"""`copier update` from every released version to the working tree, with a user's work in it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from copier import run_copy, run_update

from tests.combinations import Answers, identifier, representative_combinations
from tests.conftest import commit_all, copy_template, git
from tests.releases import WORKING_TREE, clone_with_releases, released_versions
from tests.test_extensions import tree

QUICK: list[Answers] = [{}]
EVERY_ANSWER = [answers for answers in representative_combinations() if answers]
COMBINATIONS = [
    *(pytest.param(answers, id=identifier(answers)) for answers in QUICK),
    *(pytest.param(each, id=identifier(each), marks=pytest.mark.full) for each in EVERY_ANSWER),
]

pytestmark = pytest.mark.usefixtures("fast_copier")


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with all its releases."""
    return clone_with_releases(tmp_path_factory.mktemp("releases") / "groundwork")


@pytest.fixture(params=list(released_versions()))
def project(
    request: pytest.FixtureRequest, releases: Path, tmp_path: Path, answers: Answers
) -> Path:
    """A committed project of a released version."""
    folder = tmp_path / "project"
    run_copy(
        str(releases),
        folder,
        data=answered_by(releases, request.param, answers),
        vcs_ref=f"v{request.param}",
        defaults=True,
        unsafe=False,
        quiet=True,
    )
    commit_all(folder, "Start")
    return folder


def answered_by(releases: Path, version: str, answers: Answers) -> Answers:
    """Those of the answers that a version asked for, with values that it knew."""
    questions = git(releases, "show", f"v{version}:copier.yml")
    known = set(re.findall(r"^(\w+):$", questions, re.MULTILINE))
    return {
        name: value for name, value in answers.items() if name in known and name != "extensions"
    }


def update(project: Path) -> None:
    run_update(project, defaults=True, overwrite=True, unsafe=False, quiet=True)
    assert f"_commit: v{WORKING_TREE}" in (project / ".copier-answers.yml").read_text(
        encoding="utf-8"
    )


def conflicts(project: Path) -> str:
    return git(project, "diff", "--name-only", "--diff-filter=U")


@pytest.mark.parametrize("answers", COMBINATIONS)
def test_where_nothing_was_changed_it_gives_what_a_fresh_copy_would(
    releases: Path, project: Path, tmp_path: Path, answers: Answers
) -> None:
    update(project)
    assert conflicts(project) == ""
    fresh = copy_template(releases, tmp_path / "fresh", **answers | {"extensions": []})
    commit_all(fresh, "Start")
    # The readme belongs to the project's owner from the first day.
    assert without(tree(project), "README.md") == without(tree(fresh), "README.md")


def without(files: dict[str, str], path: str) -> dict[str, str]:
    return {name: content for name, content in files.items() if name != path}


@pytest.mark.parametrize("answers", COMBINATIONS)
@pytest.mark.usefixtures("answers")
def test_a_second_update_changes_nothing(project: Path) -> None:
    update(project)
    commit_all(project, "Update")
    update(project)
    assert git(project, "status", "--porcelain") == ""


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def replace(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text, path
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def change_a_setting(project: Path) -> None:
    replace(project / "pyproject.toml", "[tool.service]\n", '[tool.service]\nlog_level = "DEBUG"\n')


def edit_core(project: Path) -> None:
    replace(project / "app/main.py", '"""The service:', '"""Our service:')
    append(project / "app/core/task_context.py", "\n\nOURS = True\n")


def edit_an_extension(project: Path) -> None:
    append(project / "app/extensions/_example/models.py", "\n\nOURS = True\n")


def delete_a_file(project: Path) -> None:
    (project / ".editorconfig").unlink()
    (project / "templates/partials/link_card.html").unlink()


def add_files(project: Path) -> None:
    own = project / "app/extensions/loyalty"
    own.mkdir()
    (own / "__init__.py").write_text('"""Points."""\n', encoding="utf-8")
    (project / "alembic/versions/1f0c5a_ours.py").write_text('"""Ours."""\n', encoding="utf-8")


def write_the_readme(project: Path) -> None:
    (project / "README.md").write_text("# Ours\n", encoding="utf-8")


WORK: list[Callable[[Path], None]] = [
    change_a_setting,
    edit_core,
    edit_an_extension,
    delete_a_file,
    add_files,
    write_the_readme,
]


@pytest.mark.parametrize("answers", COMBINATIONS)
def test_work_stays_beside_what_the_release_brings(
    releases: Path, project: Path, tmp_path: Path, answers: Answers
) -> None:
    for each in WORK:
        each(project)
    commit_all(project, "Work")

    update(project)

    assert conflicts(project) == ""
    # What a fresh copy would hold, with the same work done to it.
    fresh = copy_template(releases, tmp_path / "fresh", **answers | {"extensions": []})
    for each in WORK:
        each(fresh)
    commit_all(fresh, "Work")
    assert tree(project) == tree(fresh)
