"""The oldest version of Copier that the template takes, and the newest that PyPI has.

All other tests run with the one version that is installed here. These run the command itself, as
`uvx` gives it to a user: a copy, an update with work in it, an extension chosen and given back.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

from tests.combinations import configuration
from tests.releases import clone_with_releases, released_versions
from tests.repositories import REPOSITORY, commit_all, tree
from tests.test_released_versions import conflicts, fresh_copy, needs_trust, work

MINIMUM = str(configuration()["_min_copier_version"])
INSTALLED = importlib.metadata.version("copier")


class Copier:
    """One version of Copier in an environment of its own."""

    def __init__(self, requirement: str) -> None:
        """`requirement` is what `uvx` takes: `copier==9.19.1`, or `copier@latest`."""
        self.requirement = requirement

    def run(self, *arguments: str) -> str:
        """Run it; its output."""
        done = subprocess.run(
            ["uv", "tool", "run", "--from", self.requirement, "copier", *arguments],
            env=os.environ | {"UV_PYTHON": sys.executable},
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def version(self) -> str:
        """Which one it is."""
        return self.run("--version").split()[-1]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with all its releases."""
    return clone_with_releases(tmp_path_factory.mktemp("releases") / "groundwork")


@pytest.mark.full
@pytest.mark.usefixtures("fast_copier")
@pytest.mark.parametrize("requirement", [f"copier=={MINIMUM}", "copier@latest"])
def test_copies_and_updates(releases: Path, tmp_path: Path, requirement: str) -> None:
    copier = Copier(requirement)
    if requirement == "copier@latest" and copier.version == MINIMUM:
        pytest.skip(f"the newest Copier is the oldest that the template takes, {MINIMUM}")
    project = tmp_path / "project"
    newest_release = list(released_versions())[-1]
    trust = ["--trust"] if needs_trust(f"v{newest_release}") else []
    options = ["--defaults", "--quiet", "--data"]
    copier.run(
        *["copy", *options, "extensions=[hotel, mail]", "--vcs-ref", f"v{newest_release}"],
        *[str(releases), str(project)],
    )
    commit_all(project, "Start")
    work(project, ["mail"])

    copier.run("update", *trust, *options, "extensions=[mail, storage]", str(project))

    assert conflicts(project) == []
    answers = {"extensions": ["mail", "storage"]}
    fresh = fresh_copy(newest_release, releases, tmp_path, answers)
    work(fresh, ["mail"])
    assert tree(project) == tree(fresh)


@pytest.mark.full
def test_the_installed_one_lies_between_them() -> None:
    newest = Copier("copier@latest").version
    assert Version(MINIMUM) <= Version(INSTALLED) <= Version(newest)


def test_the_minimum_is_the_same_wherever_it_is_named() -> None:
    named = [REPOSITORY / name for name in ("Makefile", "README.md", "noxfile.py")]
    named += [*(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "tests").glob("*.py")]
    found = {
        path.name: set(
            re.findall(r"\b[Cc]opier(?:>=| )(\d+\.\d+(?:\.\d+)?)", path.read_text("utf-8"))
        )
        for path in named
    }
    assert found["Makefile"] == found["updating.md"] == {MINIMUM}
    assert {path for path, versions in found.items() if versions - {MINIMUM}} == set()


def test_the_requirement_of_these_tests_begins_with_it() -> None:
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    [requirement] = [each for each in document["project"]["dependencies"] if "copier" in each]
    assert requirement == f"copier>={MINIMUM},<{Version(MINIMUM).major + 1}"
