"""Where a project may lie, and what its user may lack: it works there, or says what is wrong."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import copy_template
from tests.documents import BLOCK
from tests.isolated import with_read_only, without_network
from tests.repositories import commit_all, edit, git
from tests.service import Service, cache_of_uv, open_folder
from tests.test_update import release

UPDATING = Path(__file__).resolve().parents[1] / "docs" / "updating.md"


def copier(
    *arguments: str, folder: Path, before: list[str] | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run Copier's command as a user does; both outputs are in `stdout`."""
    return subprocess.run(
        [*(before or []), "copier", *arguments],
        cwd=folder,
        env=None if not environment else os.environ | environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )


@pytest.fixture(scope="module")
def releases(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template whose second release changes a heading of AGENTS.md and takes a file away."""
    folder = tmp_path_factory.mktemp("surroundings") / "releases"
    git(template, "clone", "--quiet", ".", str(folder))
    edit(folder / "template/AGENTS.md.jinja", "## Check a change", "## Check each change")
    (folder / "template/.editorconfig").unlink()
    release(folder, "v0.2.0")
    return folder


CHANGED_BY_IT = {".copier-answers.yml", ".editorconfig", "AGENTS.md"}


@pytest.fixture(scope="module")
def started(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed project of the first release."""
    folder = copy_template(releases, tmp_path_factory.mktemp("started") / "p", release="v0.1.0")
    commit_all(folder, "Start")
    return folder


@pytest.fixture
def project(started: Path, tmp_path: Path) -> Path:
    """The same, for one test."""
    return Path(shutil.copytree(started, tmp_path / "project"))


class TestCheckUpdate:
    """`copier check-update` tells people in words and scripts by its status."""

    def test_at_the_newest_release(self, releases: Path, tmp_path: Path) -> None:
        project = copy_template(releases, tmp_path / "project")
        commit_all(project, "Start")
        told = copier("check-update", folder=project)
        assert (told.returncode, told.stdout) == (0, "Project is up-to-date!\n")
        assert copier("check-update", "--quiet", folder=project).returncode == 0

    def test_at_an_older_release(self, project: Path) -> None:
        told = copier("check-update", folder=project)
        assert told.returncode == 0
        assert "Current version is 0.1.0, latest version is 0.2.0." in told.stdout
        quiet = copier("check-update", "--quiet", folder=project)
        assert (quiet.returncode, quiet.stdout) == (2, "")
        as_json = copier("check-update", "--output-format", "json", folder=project)
        assert json.loads(as_json.stdout)["update_available"]
        assert git(project, "status", "--porcelain") == ""


class TestWorkThatIsNotCommitted:
    """An update refuses it and touches nothing."""

    def test_is_refused(self, project: Path) -> None:
        for work in (self.edited, self.staged, self.deleted, self.untracked):
            work(project)
            before = git(project, "status", "--porcelain"), git(project, "diff", "HEAD")

            told = copier("update", "--defaults", folder=project)

            assert told.returncode == 1, work
            assert "is dirty; cannot continue. Please commit or stash your" in told.stdout, work
            after = git(project, "status", "--porcelain"), git(project, "diff", "HEAD")
            assert after == before, work
            git(project, "reset", "--quiet", "--hard")

    def edited(self, project: Path) -> None:
        (project / "Makefile").write_text("# ours\n", encoding="utf-8")

    def staged(self, project: Path) -> None:
        self.edited(project)
        git(project, "add", "Makefile")

    def deleted(self, project: Path) -> None:
        (project / "Makefile").unlink()

    def untracked(self, project: Path) -> None:
        (project / "ours.txt").write_text("ours\n", encoding="utf-8")

    def test_is_not_what_undoing_an_update_leaves(self, project: Path) -> None:
        """As the docs say it, of one that was interrupted too: git has what was there before."""
        (project / ".env").write_text("POSTGRES_PASSWORD=ours\n", encoding="utf-8")
        edit(project / "AGENTS.md", "## Check a change", "## Check our changes")
        commit_all(project, "Work")
        copier("update", "--defaults", "--conflict", "rej", folder=project)
        assert (project / "AGENTS.md.rej").exists()
        for command in ("git reset --hard", "git clean -fd"):
            assert f"\n{command}\n" in UPDATING.read_text(encoding="utf-8")
            git(project, *command.split()[1:])
        assert git(project, "status", "--porcelain") == ""
        assert (project / ".env").exists()
        assert copier("update", "--defaults", folder=project).returncode == 0

    def test_is_not_seen_without_a_repository(self, project: Path) -> None:
        shutil.rmtree(project / ".git")
        told = copier("update", "--defaults", folder=project)
        assert told.returncode == 1
        assert "only supported in git-tracked" in told.stdout


@pytest.mark.full
class TestRecopy:
    """`copier recopy` begins anew, after saying so."""

    def test_loses_edits_and_keeps_what_is_its_owner_s(self, project: Path) -> None:
        owners, shared = (
            ("Makefile", "README.md", "app/api/pages.py"),
            ("Dockerfile", "kit/lifespan.py"),
        )
        pristine = {name: (project / name).read_bytes() for name in shared}
        for name in (*owners, *shared):
            (project / name).write_text("# ours\n", encoding="utf-8")
        (project / "app/models/ours.py").write_text("OURS = True\n", encoding="utf-8")
        (project / "alembic.ini").unlink()
        (project / "app/main.py").unlink()
        commit_all(project, "Work")

        told = copier("recopy", "--defaults", "--overwrite", folder=project)

        assert told.returncode == 0, told.stdout
        warning = " ".join(told.stdout.split("\n\n")[0].split())
        assert warning.startswith("Commit first: the kit and the files that you share")
        assert {name: (project / name).read_bytes() for name in shared} == pristine
        for name in owners:
            assert (project / name).read_text(encoding="utf-8") == "# ours\n"
        assert (project / "app/models/ours.py").exists()
        assert (project / "alembic.ini").exists()
        assert (project / "app/main.py").exists()
        assert (project / ".editorconfig").exists(), "the new release has none, but nothing leaves"
        assert "## Check each change" in (project / "AGENTS.md").read_text(encoding="utf-8")

    def test_asks_before_it_overwrites(self, project: Path) -> None:
        (project / "Makefile").write_text("# ours\n", encoding="utf-8")
        told = copier("recopy", "--defaults", folder=project)
        assert told.returncode != 0, "there is nobody to answer"
        assert (project / "Makefile").read_text(encoding="utf-8") == "# ours\n"

    def test_a_first_copy_speaks_of_nothing_that_was_there(
        self, releases: Path, tmp_path: Path
    ) -> None:
        told = copier("copy", "--defaults", str(releases), "new", folder=tmp_path)
        assert "are overwritten" not in told.stdout
        assert "\n  git init && make setup\n  git add . && git commit" in told.stdout
        assert "parent folder" not in told.stdout


class TestInALargerRepository:
    """A service in a folder of a repository that holds others, and whatever else."""

    @pytest.fixture
    def larger(self, started: Path, tmp_path: Path) -> Path:
        """With two services and a file that is like one of theirs."""
        folder = tmp_path / "larger"
        folder.mkdir()
        (folder / "AGENTS.md").write_text("# All\n\n## Check a change\n", encoding="utf-8")
        (folder / ".gitignore").write_text("*.log\n", encoding="utf-8")
        for name in ("orders", "bills"):
            without_git = shutil.ignore_patterns(".git")
            shutil.copytree(started, folder / "services" / name, ignore=without_git)
        commit_all(folder, "Services")
        return folder

    @pytest.mark.full
    @pytest.mark.parametrize("ci", ["github", "none"])
    def test_a_copy_makes_no_repository_inside(self, releases: Path, larger: Path, ci: str) -> None:
        answers = ("--data", f"ci={ci}")
        told = copier("copy", "--defaults", *answers, str(releases), "services/new", folder=larger)
        assert "\n  make setup\n  git add . && git commit" in told.stdout
        assert "commit hooks" in told.stdout.split("The repository begins in a parent folder.")[1]
        assert ("hooks and workflow to" in told.stdout) == (ci == "github")

    def test_an_update_touches_its_own_folder_alone(self, larger: Path) -> None:
        orders = larger / "services" / "orders"
        (orders / "app/main.py").write_text("# ours\n", encoding="utf-8")
        (orders / "alembic.ini").unlink()
        (larger / "services/bills/AGENTS.md").write_text("# Ours\n", encoding="utf-8")
        commit_all(larger, "Work")
        (larger / "some.log").write_text("ignored\n", encoding="utf-8")

        told = copier("update", "--defaults", folder=orders)

        assert told.returncode == 0, told.stdout
        assert "undoes it" in told.stdout.split("Updating to template version")[0]
        changed = git(larger, "status", "--porcelain").splitlines()
        assert {line[3:] for line in changed} == {
            f"services/orders/{name}" for name in CHANGED_BY_IT
        }
        assert (orders / "app/main.py").read_text(encoding="utf-8") == "# ours\n"
        assert not (orders / "alembic.ini").exists()

    def test_a_conflict_is_listed_where_it_is(self, larger: Path) -> None:
        orders = larger / "services" / "orders"
        edit(orders / "AGENTS.md", "## Check a change", "## Check our changes")
        commit_all(larger, "Work")

        copier("update", "--defaults", "services/orders", folder=larger)

        assert "UU services/orders/AGENTS.md" in git(larger, "status", "--porcelain")
        assert "<<<<<<< before updating" in (orders / "AGENTS.md").read_text(encoding="utf-8")
        assert [*larger.rglob("*.rej")] == []

    @pytest.mark.full
    def test_setup_says_where_hooks_belong_and_there_they_work(self, larger: Path) -> None:
        orders = larger / "services" / "orders"
        service = Service(orders, {"UV_CACHE_DIR": cache_of_uv()})
        said = service.make("setup")
        assert f"No commit hooks: the repository begins at {larger}." in said
        assert "with services/orders/ before .venv" in said
        service.make("lint")

        [(_, _, hooks)] = [
            block
            for block in BLOCK.findall(UPDATING.read_text(encoding="utf-8"))
            if block[1].startswith(".pre-commit-config.yaml")
        ]
        (larger / ".pre-commit-config.yaml").write_text(hooks, encoding="utf-8")
        commit_all(larger, "Hooks")
        conflict = "<<<<<<< before updating\nours\n=======\ntheirs\n>>>>>>> after updating\n"
        for name in ("orders", "bills"):
            (larger / "services" / name / "notes.txt").write_text(conflict, encoding="utf-8")
        git(larger, "add", ".")
        pre_commit = str(orders / ".venv" / "bin" / "pre-commit")
        refused = Service(larger, service.environment).run(pre_commit, "run", status=1)
        assert "services/orders/notes.txt" in refused
        assert "services/bills/notes.txt" not in refused


@pytest.mark.parametrize("is_kept", [True, False])
def test_the_kit_keeps_its_width_by_a_file_of_its_own(project: Path, is_kept: bool) -> None:
    """As the docs say it: whatever line length its owner has, `make format` leaves it alone."""
    edit(project / "pyproject.toml", "line-length = 100", "line-length = 120")
    edit(
        project / "pyproject.toml",
        '"**/migrations/**" =',
        '"app/**" = ["PLW0603"]\n"**/migrations/**" =',
    )
    if is_kept:
        [file] = [
            body
            for _, title, body in BLOCK.findall(UPDATING.read_text())
            if title == "kit/ruff.toml"
        ]
        (project / "kit/ruff.toml").write_text(file, encoding="utf-8")
    commit_all(project, "A width of ours")
    for arguments in (("format",), ("check", "--fix-only"), ("format",), ("check",)):
        subprocess.run(["ruff", *arguments, "--quiet", "--no-cache", "."], cwd=project, check=True)
    changed = git(project, "diff", "--name-only").splitlines()
    assert "app/extensions/_example/tests/api/test_notes.py" in changed
    assert any(path.startswith("kit/") for path in changed) != is_kept


@pytest.fixture
def odd_folder() -> Iterator[Path]:
    """A folder that every user can reach, whose name is hard to quote."""
    with open_folder() as path:
        (path / "Mé & my 'dienst' ü").mkdir()
        yield path / "Mé & my 'dienst' ü"


IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
COMMIT = ("git", *IDENTITY, "commit", "--quiet", "--message", "Work")

WHERE_PATHS_MATTER = (
    "tests/migrations kit/tests/devservices kit/tests/commands kit/tests/migrations "
    "kit/tests/test_makefile.py"
)
"""Tests of what starts processes, reads settings and writes files."""


@pytest.mark.full
def test_a_path_with_spaces_and_other_letters(releases: Path, odd_folder: Path) -> None:
    project = odd_folder / "the project"
    first = ("copy", "--defaults", "--vcs-ref", "v0.1.0", "--data", "kit_tests=true")
    told = copier(*first, str(releases), project.name, folder=odd_folder)
    assert told.returncode == 0, told.stdout
    (project / "eigene Dateien").mkdir()
    (project / "eigene Dateien" / "für uns.txt").write_text("ours\n", encoding="utf-8")
    edit(project / "app/main.py", '"""The service:', '"""Our sérvice:')
    commit_all(project, "Start")
    told = copier("update", "--defaults", folder=project)
    assert told.returncode == 0, told.stdout
    assert "Our sérvice" in (project / "app/main.py").read_text(encoding="utf-8")
    changed = git(project, "status", "--porcelain").splitlines()
    assert {line[3:] for line in changed} == CHANGED_BY_IT

    service = Service(project, {"UV_CACHE_DIR": cache_of_uv()})
    service.make("setup", "lint", "test", f"args={WHERE_PATHS_MATTER}")
    service.make("db-upgrade", "doctor")
    service.run(*COMMIT, "--all")  # past the hooks


@pytest.mark.full
class TestWithoutNetwork:
    """What was downloaded before is enough; where it is not, the way out is named."""

    def test_with_what_was_downloaded_before(self, releases: Path, service_folder: Path) -> None:
        online = Service(
            copy_template(releases, service_folder / "online"), {"UV_CACHE_DIR": cache_of_uv()}
        )
        online.make("setup")

        alone = without_network()
        project = service_folder / "offline"
        told = copier(
            "copy", "--defaults", str(releases), str(project), folder=project.parent, before=alone
        )
        assert told.returncode == 0, told.stdout
        commit_all(project, "Start")
        offline = Service(project, online.environment)
        refused = offline.run(*alone, "make", "setup", status=2)
        assert "Without a network, set UV_OFFLINE=1 to use earlier downloads." in refused
        offline.run(*alone, "env", "UV_OFFLINE=1", "make", "setup")
        offline.run(*alone, "make", "test")
        # With the lock file that the first time left, nothing has to be said any more.
        shutil.rmtree(project / ".venv")
        offline.run(*alone, "make", "setup")

    def test_with_nothing_downloaded(self, releases: Path, service_folder: Path) -> None:
        project = copy_template(releases, service_folder / "cold")
        cold = Service(project, {"UV_CACHE_DIR": str(service_folder / "cold-cache")})
        said = cold.run(*without_network(), "env", "UV_OFFLINE=1", "make", "setup", status=2)
        assert "was not found in the cache" in said
        assert "network was disabled" in said
        assert "Traceback" not in said


@pytest.mark.full
def test_a_home_that_is_read_only(releases: Path, service_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    closed = with_read_only(home)
    project = service_folder / "guest"
    told = copier(
        "copy",
        "--defaults",
        str(releases),
        str(project),
        folder=tmp_path,
        before=closed,
        HOME=str(home),
    )
    assert told.returncode == 0, told.stdout
    commit_all(project, "Start")
    guest = Service(project, {"HOME": str(home)})
    guest.environment.pop("UV_CACHE_DIR", None)
    if not guest.environment.get("UV_CACHE_DIR"):
        refused = guest.run(*closed, "make", "setup", status=2)
        assert str(home) in refused
        assert "set XDG_CACHE_HOME=/some/folder for downloads" in refused

    elsewhere = tmp_path / "cache"
    elsewhere.mkdir()
    (elsewhere / "uv").symlink_to(cache_of_uv())
    guest.environment["XDG_CACHE_HOME"] = str(elsewhere)
    guest.run(*closed, "make", "setup", "lint")
    guest.run(*closed, "make", "test", "args=tests/api/test_pages.py")
    guest.run(*closed, "make", "db-upgrade")
    guest.run(*closed, *COMMIT, "--allow-empty")
