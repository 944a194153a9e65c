"""Fixtures: the template as a tagged clone of this working tree, and projects rendered from it."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from copier import run_copy

from tests.fast_copier import fast_copier, part_that_answers_reach
from tests.installed_servers import cores
from tests.repositories import template_of_working_tree

Render = Callable[..., Path]

pytest_plugins = ["tests.built_image", "tests.service", "tests.walk_profiles"]

TEMPLATE_PATHS = ["copier.yml", "extensions_catalog", "hooks", "template", "tests/kit"]
"""All that a copy of the template reads."""


def pytest_xdist_auto_num_workers() -> int:
    """One and a half for each core: many tests wait for what servers and commands do."""
    return max(2, cores() * 3 // 2)


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties if report.when == "call" else ():
            terminalreporter.write_line(f"{report.nodeid}: {name}: {value}")


@pytest.fixture(scope="session")
def copier_template_paths() -> list[str]:
    """What pytest-copier takes for the template."""
    return TEMPLATE_PATHS


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This working tree as a release would be: a clean repository with one tag."""
    return template_of_working_tree(tmp_path_factory.mktemp("template") / "groundwork", "0.1.0")


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
