"""The repository itself: what lies where, and what never gets in."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.combinations import catalogue, configuration
from tests.owners_paths import owners_paths
from tests.repositories import REPOSITORY, git

TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "bench",
    "copier.yml",
    "docs",
    "extensions_catalog",
    "hooks",
    "mkdocs.yml",
    "noxfile.py",
    "pyproject.toml",
    "template",
    "tests",
    "zensical.toml",
}
REQUIRED = TOP_LEVEL - {"mkdocs.yml", "zensical.toml"} | {".ci"}

FORBIDDEN = {
    "a registry's address": r"https?://[^ \"'`]+/simple\b|(index|registry)[-_]?url *[=:] *\"?https?://",
    "a path of somebody's machine": r"/(home|root|Users)/[a-z]\w*/",
    "a private key": "-----BEGIN " + "[A-Z ]*PRIVATE KEY-----",
}


def tracked() -> list[str]:
    """What git tracks, and what it would track with the next commit."""
    listed = git(REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [name for name in listed.split("\0") if name and (REPOSITORY / name).is_file()]


def test_top_level() -> None:
    names = {name.split("/")[0] for name in tracked()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL
    assert names >= REQUIRED


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for name in tracked():
        content = (REPOSITORY / name).read_bytes()
        if b"\0" not in content and name != "tests/test_repository.py":
            found += [name for line in content.decode().splitlines() if pattern.search(line)]
    assert found == []


def test_no_lock_files() -> None:
    locks = {"uv.lock", "poetry.lock", "package-lock.json", "Pipfile.lock"}
    assert [name for name in tracked() if Path(name).name in locks] == []


def test_python_is_plain_python() -> None:
    """T4: no Jinja in Python, neither by suffix nor by content of what is rendered."""
    assert [name for name in tracked() if ".py.jinja" in name] == []


def test_two_links_lead_to_the_catalogue_and_to_the_kit_s_tests() -> None:
    links = [REPOSITORY / name for name in tracked_links() if (REPOSITORY / name).is_symlink()]
    assert {link.relative_to(REPOSITORY).as_posix(): link.resolve() for link in links} == {
        "template/app/extensions": REPOSITORY / "extensions_catalog",
        "template/kit/tests": REPOSITORY / "tests" / "kit",
    }


def tracked_links() -> list[str]:
    return [name for name in git(REPOSITORY, "ls-files", "-z").split("\0") if name]


def test_catalogue_and_its_list_agree() -> None:
    """A folder of the catalogue is an extension that can be chosen, and the other way round."""
    folders = {
        path.name
        for path in (REPOSITORY / "extensions_catalog").iterdir()
        if (path / "__init__.py").exists()
    }
    assert folders == {"_example", *catalogue()}


def test_an_update_and_a_recopy_leave_the_same_files_to_their_owner() -> None:
    kept = {path.removeprefix("/") for path in configuration()["_skip_if_exists"]}
    assert kept == owners_paths()
    missing = [path for path in kept if not (REPOSITORY / "template" / path).exists()]
    rendered = {"README.md", "SECURITY.md", "renovate.json"}
    assert set(missing) == rendered, "which have the suffix of what is rendered"


def test_names_of_extensions_can_be_removed_again() -> None:
    """Copier compares folders with a function that passes over these names."""
    for name in catalogue():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert name.lower() not in {"tags", "rcs", "cvs"}


def test_changelog_begins_with_the_version_of_the_project() -> None:
    """Dated when it is released, `(Unreleased)` until then."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (\S+) \((\d{4}-\d\d-\d\d|Unreleased)\)$", text, re.MULTILINE)
    assert first
    assert first[1] == project["project"]["version"]
