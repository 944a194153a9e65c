"""Fixtures: the template as a tagged clone of this working tree, and projects rendered from it."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from copier import run_copy

from tests.fast_copier import fast_copier, part_that_answers_reach

REPOSITORY = Path(__file__).resolve().parents[1]

Render = Callable[..., Path]

pytest_plugins = ["tests.service", "tests.walk_profiles"]

TEMPLATE_PATHS = ["copier.yml", "extensions_catalog", "hooks", "template"]
"""All that a copy of the template reads."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests to CI, unless they are asked for by name or mark."""
    if os.environ.get("CI") or config.getoption("markexpr") or config.getoption("keyword"):
        return
    if any("::" in argument for argument in config.args):
        return
    skip = pytest.mark.skip(reason="long: runs with CI=true or `make test-full`")
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def copier_template_paths() -> list[str]:
    """What pytest-copier takes for the template."""
    return TEMPLATE_PATHS


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; its output."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def commit_all(folder: Path, message: str) -> None:
    """Commit all that a folder holds, making it a repository where it is none."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)


def tree(project: Path) -> dict[str, str]:
    """What git would commit, by its path."""
    git(project, "add", "--all")
    lines = git(project, "ls-files", "--stage").splitlines()
    return {line.split("\t")[1]: line.split()[1] for line in lines}


def copy_of_working_tree(destination: Path) -> None:
    """Copy what git tracks or would track here, uncommitted work included, links as links."""
    listed = git(REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        source, target = REPOSITORY / name, destination / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This working tree as a release would be: a clean repository with one tag."""
    folder = tmp_path_factory.mktemp("template") / "groundwork"
    copy_of_working_tree(folder)
    commit_all(folder, "Release")
    git(folder, "tag", "v0.1.0")
    return folder


@pytest.fixture(scope="session")
def template_without_git(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without a repository: a copy from it takes a fraction of the time."""
    folder = tmp_path_factory.mktemp("plain") / "groundwork"
    shutil.copytree(template, folder, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    return folder


@pytest.fixture(scope="session")
def answered_part(template_without_git: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What of the template answers reach: copies of it are made by the thousand."""
    return part_that_answers_reach(template_without_git, tmp_path_factory.mktemp("part") / "part")


def copy_template(
    source: Path,
    destination: Path,
    *,
    exclude: Sequence[str] = (),
    release: str | None = None,
    **answers: Any,  # noqa: ANN401
) -> Path:
    """What `copier copy --defaults` does without `--trust`; the project's folder.

    Args:
        source: the template.
        destination: where the project goes.
        exclude: patterns of what is left out, beside the template's own.
        release: a tag of the template; its newest otherwise.
        answers: to the questions.
    """
    run_copy(
        str(source),
        destination,
        data=answers,
        exclude=exclude,
        vcs_ref=release,
        defaults=True,
        unsafe=False,
        quiet=True,
    )
    return destination


@pytest.fixture
def render(template: Path, tmp_path: Path) -> Render:
    """Render a project from the tagged clone, as users do."""

    def _render(name: str = "project", **answers: Any) -> Path:  # noqa: ANN401
        return copy_template(template, tmp_path / name, **answers)

    return _render


@pytest.fixture(name="fast_copier")
def _fast_copier() -> Iterator[None]:
    """Copies in a fraction of the time."""
    with fast_copier():
        yield


@pytest.fixture
def render_fast(fast_copier: None, template_without_git: Path, tmp_path: Path) -> Render:  # noqa: ARG001
    """Render many projects, from a template without git."""

    def _render(name: str = "project", **answers: Any) -> Path:  # noqa: ANN401
        return copy_template(template_without_git, tmp_path / name, **answers)

    return _render
