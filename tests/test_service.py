"""The rendered service as its user meets it: set up, checked and tested by its make targets."""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.combinations import configuration
from tests.conftest import commit_all, copy_template

# One worker of pytest-xdist runs them all: they share the set-up project and its environment.
pytestmark = pytest.mark.xdist_group("service")

NOBODY = 65534


class Service:
    """A rendered project whose make targets run as one user, in an environment that is bare."""

    def __init__(self, folder: Path, user: int | None = None, **environment: str) -> None:
        """`user` is the id of another user than ours; `environment` adds to what is passed on."""
        self.folder = folder
        self.user = user
        self.environment = {
            "PATH": f"{folder.parent / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder.parent),
            "LANG": "C.UTF-8",
            "UV_PYTHON": python_for(user),
            "UV_PYTHON_DOWNLOADS": "never",
            **{name: value for name, value in os.environ.items() if name in PASSED_ON},
            **environment,
        }

    def make(self, *arguments: str) -> str:
        """Run make; its output, which a failing test shows."""
        return self.run("make", *arguments)

    def run(self, *command: str) -> str:
        """Run a command in the project as its user."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        print(done.stdout)
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}"
        return done.stdout


PASSED_ON = {
    name
    for name in os.environ
    if name == "CI" or name.startswith(("UV_", "PIP_", "SSL_")) or name.lower().endswith("_proxy")
} - {"UV_PROJECT_ENVIRONMENT", "UV_RUN_RECURSION_DEPTH"}
"""How this machine reaches the package index is its own business, and whether it is CI."""


def python_for(user: int | None) -> str:
    """A Python of 3.11 or newer that the user may run: ours may lie in a home that is closed."""
    ours = Path(sys.executable).resolve()
    closed = [folder for folder in ours.parents if not folder.stat().st_mode & 0o001]
    if user is None or not closed:
        return str(ours)
    for name in ("python3.13", "python3.12", "python3.11"):
        if found := shutil.which(name, path="/usr/local/bin:/usr/bin"):
            return found
    pytest.skip(f"{closed[0]} is closed to others, and no other Python 3.11 or newer is installed")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's, with uv in its `bin`."""
    with tempfile.TemporaryDirectory(prefix="groundwork-") as created:
        path = Path(created)
        path.chmod(0o755)
        (path / "bin").mkdir()
        uv = shutil.which("uv")
        assert uv
        shutil.copy2(uv, path / "bin" / "uv")
        yield path


@pytest.fixture(scope="module")
def service(template: Path, folder: Path) -> Service:
    """The default project, committed and set up."""
    project = copy_template(template, folder / "project")
    commit_all(project, "Start")
    service = Service(project, UV_CACHE_DIR=cache_of_uv())
    service.make("setup")
    return service


def cache_of_uv() -> str:
    """Where uv keeps what it downloaded before, in spite of the changed home."""
    asked = subprocess.run(["uv", "cache", "dir"], check=True, capture_output=True, text=True)
    return asked.stdout.strip()


def test_setup_installs_the_commit_hooks(service: Service) -> None:
    assert (service.folder / ".git" / "hooks" / "pre-commit").exists()


def test_lint(service: Service) -> None:
    service.make("lint")


def test_typecheck(service: Service) -> None:
    service.make("typecheck")


def test_quick_tests(service: Service) -> None:
    service.make("test")


def test_commits_pass_the_hooks(service: Service) -> None:
    service.run(".venv/bin/pre-commit", "run", "--all-files")


def test_working_leaves_nothing_for_git(service: Service) -> None:
    """Caches, environment and local data are ignored; the lock file is to be committed."""
    left = service.run("git", "status", "--porcelain", "--untracked-files=all").split()
    assert left == ["??", "uv.lock"]


def test_no_project_is_named_like_a_package_that_it_needs(service: Service) -> None:
    """`package_names_taken` in copier.yml: uv refuses a project that depends on its own name."""
    lock = tomllib.loads((service.folder / "uv.lock").read_text(encoding="utf-8"))
    needed = {package["name"] for package in lock["package"]} - {"my-service"}
    taken = set(configuration()["package_names_taken"]["default"])
    assert needed - taken == set(), "add these to package_names_taken in copier.yml"


def test_help_is_the_default_and_names_every_target(service: Service) -> None:
    makefile = (service.folder / "Makefile").read_text(encoding="utf-8")
    phony = makefile.split(".PHONY:")[1].split("\n\n")[0].replace("\\", " ").split()
    listed = {line.split()[0] for line in service.make().splitlines() if line.strip()}
    assert set(phony) <= listed


@pytest.mark.full
def test_all_tests(service: Service) -> None:
    service.make("test-all")


@pytest.mark.full
@pytest.mark.skipif(os.getuid() != 0, reason="this run is by an ordinary user already")
def test_all_tests_as_an_ordinary_user(template: Path, folder: Path) -> None:
    """From nothing: set-up, checks and tests of a user who owns nothing but the project."""
    home = folder / "home"
    shutil.copytree(folder / "bin", home / "bin")
    project = copy_template(template, home / "project")
    commit_all(project, "Start")
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    service = Service(project, user=NOBODY)
    service.make("setup", "lint", "typecheck", "test-all")


@pytest.mark.full
def test_all_tests_with_the_lowest_versions(service: Service, folder: Path) -> None:
    """T7: the lower bounds in pyproject.toml are honest."""
    project = folder / "lowest"
    shutil.copytree(service.folder, project, ignore=shutil.ignore_patterns(".venv", "uv.lock"))
    lowest = Service(project, **service.environment)
    lowest.run("uv", "sync", "--quiet", "--resolution", "lowest-direct")
    lowest.run("uv", "run", "--no-sync", "pytest", "--numprocesses", "auto")


@pytest.mark.full
def test_upgrade_moves_the_date_and_the_versions(service: Service, folder: Path) -> None:
    project = folder / "upgraded"
    shutil.copytree(service.folder, project, ignore=shutil.ignore_patterns(".venv"))
    before = (project / "pyproject.toml").read_text(encoding="utf-8")
    upgraded = Service(project, **service.environment)
    upgraded.make("upgrade")
    after = (project / "pyproject.toml").read_text(encoding="utf-8")
    changed = [
        new for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new
    ]
    assert len(changed) == 1
    assert changed[0].startswith('exclude-newer = "20')
    upgraded.run("uv", "lock", "--check")


@pytest.mark.full
@pytest.mark.parametrize("python_minimum", ["3.12", "3.13"])
def test_types_hold_for_newer_pythons(
    template: Path, folder: Path, service: Service, python_minimum: str
) -> None:
    """The same tree, checked as for the Python that the answer names as the oldest."""
    name = f"python-{python_minimum}"
    project = copy_template(template, folder / name, python_minimum=python_minimum)
    tools = service.folder / ".venv" / "bin"
    newer = Service(project, **service.environment)
    newer.run(str(tools / "ruff"), "check", ".")
    newer.run(str(tools / "mypy"), "app", "devservices", "tests", "alembic/env.py")
