"""`copier update`: nothing moves without reason, edits survive, conflicts are seen and stopped."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from copier import run_update
from pytest_copier.plugin import CopierFixture

from tests.combinations import Answers, switches
from tests.conftest import copy_template
from tests.repositories import REPOSITORY, commit_all, edit, git, tree

pytestmark = pytest.mark.usefixtures("fast_copier")


@pytest.fixture
def releases(template: Path, tmp_path: Path) -> Path:
    """A template of its own for one test, whose next release the test writes."""
    folder = tmp_path / "releases"
    git(tmp_path, "clone", "--quiet", str(template), str(folder))
    return folder


@pytest.fixture
def project(releases: Path, tmp_path: Path) -> Path:
    """A committed project of the first release."""
    folder = copy_template(releases, tmp_path / "project", project_name='Acme & "Söhne" #1')
    commit_all(folder, "Start")
    return folder


def release(folder: Path, tag: str) -> None:
    commit_all(folder, f"Release {tag}")
    git(folder, "tag", tag)


def update(project: Path, *, to: str | None = None, **answers: object) -> None:
    """Update to a release, the newest one where none is named; without trust."""
    run_update(
        project,
        data=answers,
        vcs_ref=to,
        defaults=True,
        overwrite=True,
        unsafe=False,
        quiet=True,
    )


@pytest.mark.full
def test_a_fast_update_gives_the_same(releases: Path, tmp_path: Path) -> None:
    """As Copier's own command: what `tests/fast_copier.py` leaves out or keeps changes nothing."""
    projects = [tmp_path / "fast", tmp_path / "usual"]
    for project in projects:
        copy_template(releases, project, extensions=["hotel"])
        edit(project / "AGENTS.md", "## Check a change", "## Check our changes")
        edit(project / "app/main.py", '"""', '"""Ours. ')
        (project / ".editorconfig").unlink()
        commit_all(project, "Work")
    edit(releases / "template/AGENTS.md.jinja", "## Check a change", "## Check each change")
    (releases / "template/news.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    (releases / "template/news.sh").chmod(0o755)
    release(releases, "v0.2.0")

    update(projects[0], extensions=["mail"])
    command = ["copier", "update", "--quiet", "--defaults", "--data", "extensions=[mail]"]
    subprocess.run(command, cwd=projects[1], check=True)

    fast, usual = (git(project, "status", "--porcelain") for project in projects)
    assert fast == usual
    assert "UU AGENTS.md" in usual
    for project in projects:
        commit_all(project, "Update")
    fast, usual = (git(project, "ls-tree", "-r", "HEAD") for project in projects)
    assert fast == usual


def test_unchanged_answers_change_nothing(copier: CopierFixture, tmp_path: Path) -> None:
    project = copier.copy(tmp_path / "project", project_name="Acme {{ 7 * 7 }}")
    commit_all(project.path, "Start")
    copier.update(project.path)
    assert git(project.path, "status", "--porcelain") == ""


def test_new_release_with_nothing_new_changes_the_recorded_version_alone(
    releases: Path, project: Path
) -> None:
    release(releases, "v0.1.1")
    update(project)
    assert git(project, "diff", "--name-only").split() == [".copier-answers.yml"]


def test_edits_survive_beside_the_template_s_change(releases: Path, project: Path) -> None:
    edit(releases / "template/AGENTS.md.jinja", "## Check a change", "## Check each change")
    edit(releases / "template/kit/lifespan.py", '"""', '"""Theirs. ')
    (releases / "template/NEWS.md").write_text("# News\n", encoding="utf-8")
    release(releases, "v0.2.0")
    edit(project / "AGENTS.md", "It exits with 0", "Alas, it exits with 0")
    edit(project / "app/main.py", '"""', '"""Ours. ')
    edit(project / "kit/lifespan.py", "\n\n\n", "\n\n\n# Ours.\n")
    (project / "app/own.py").write_text("OURS = True\n", encoding="utf-8")
    (project / ".editorconfig").unlink()
    commit_all(project, "Work")
    update(project)
    text = (project / "AGENTS.md").read_text(encoding="utf-8")
    assert "## Check each change" in text
    assert "Alas, it exits with 0" in text
    assert (project / "app/main.py").read_text(encoding="utf-8").startswith('"""Ours. ')
    lifespan = (project / "kit/lifespan.py").read_text(encoding="utf-8")
    assert lifespan.startswith('"""Theirs. ')
    assert "\n# Ours.\n" in lifespan
    assert (project / "NEWS.md").exists()
    assert (project / "app/own.py").exists()
    assert not (project / ".editorconfig").exists()
    assert git(project, "diff", "--name-only", "--diff-filter=U") == ""


def test_what_is_its_owner_s_no_release_touches(releases: Path, project: Path) -> None:
    """Neither where a release changes the same line, nor in a file that was deleted."""
    edit(releases / "template/README.md.jinja", "## Start", "## Begin")
    edit(releases / "template/app/main.py", '"""', '"""Theirs. ')
    edit(releases / "template/app/core/celery.py", '"""', '"""Theirs. ')
    edit(releases / "template/templates/index.html", "<", "<!-- Theirs. --><")
    (releases / "template/app/api/theirs.py").write_text("THEIRS = True\n", encoding="utf-8")
    (releases / "template/app/admin/filters.py").unlink()
    release(releases, "v0.2.0")
    (project / "README.md").write_text("# Ours\n", encoding="utf-8")
    edit(project / "app/main.py", '"""', '"""Ours. ')
    (project / "templates/index.html").unlink()
    commit_all(project, "Work")
    update(project)
    assert git(project, "status", "--porcelain").split() == ["M", ".copier-answers.yml"]


def test_the_kit_s_tests_come_and_go_with_an_answer(
    releases: Path, project: Path, tmp_path: Path
) -> None:
    """As `copier update --data kit_tests=true`, by whoever changes the kit; nobody is asked."""
    assert not (project / "kit" / "tests").exists()
    before = tree(project)

    update(project, kit_tests=True)

    commit_all(project, "The kit's tests")
    fresh = copy_template(
        releases, tmp_path / "fresh", project_name='Acme & "Söhne" #1', kit_tests=True
    )
    commit_all(fresh, "Start")
    assert tree(project) == tree(fresh)
    theirs = git(REPOSITORY, "ls-files", "tests/kit").splitlines()
    assert len(theirs) > 50
    assert {f"kit/{path.replace('/kit/', '/')}" for path in theirs} <= set(tree(project))
    edit(releases / "tests/kit/test_main.py", "\n", "\n# Theirs.\n")
    release(releases, "v0.2.0")
    update(project)
    assert "# Theirs." in (project / "kit/tests/test_main.py").read_text(encoding="utf-8")
    commit_all(project, "Update")
    update(project, kit_tests=False)
    assert set(tree(project)) == set(before)


def test_changed_answers_move_what_follows_from_them(project: Path) -> None:
    connection = "postgresql://shop@db.example.com/orders"
    update(project, database="postgresql", postgres_connection=connection, ci="gitlab")
    assert "db.example.com" in (project / "pyproject.toml").read_text(encoding="utf-8")
    assert (project / ".gitlab-ci.yml").exists()
    assert not (project / ".github").exists()
    commit_all(project, "Answers")
    update(project, database="none")
    assert "db.example.com" not in (project / "pyproject.toml").read_text(encoding="utf-8")
    remembered = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert "postgres_connection" not in remembered


SWITCHES = switches()


@pytest.mark.full
@pytest.mark.parametrize(("answers", "switched"), SWITCHES.values(), ids=SWITCHES)
def test_an_answer_that_is_switched_there_and_back_leaves_no_trace(
    template: Path, tmp_path: Path, answers: Answers, switched: Answers
) -> None:
    project = copy_template(template, tmp_path / "project", **answers)
    commit_all(project, "Start")
    before = tree(project)
    # Its owner's, as all that answers do not reach.
    owned = {name: (project / name).read_bytes() for name in ("README.md", "SECURITY.md")}

    update(project, **switched)

    assert git(project, "diff", "--name-only", "--diff-filter=U") == ""
    fresh = copy_template(template, tmp_path / "fresh", **switched)
    for name, content in owned.items():
        (fresh / name).write_bytes(content)
    commit_all(fresh, "Start")
    assert tree(project) == tree(fresh)
    commit_all(project, "There")
    update(project, **answers)
    assert tree(project) == before


def test_dependencies_that_the_owner_moved_on_conflict_in_one_line_at_most(
    releases: Path, project: Path
) -> None:
    """A date pins the versions: a list of constraints would conflict in each of its lines."""
    pinned = 'exclude-newer = "'
    edit(releases / "template/pyproject.toml.jinja", pinned, f"{pinned}2027-")
    release(releases, "v0.2.0")
    edit(project / "pyproject.toml", pinned, f"{pinned}2028-")
    commit_all(project, "make upgrade")
    update(project)
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    assert text.count("<<<<<<<") == 1
    conflict = text.split("<<<<<<<")[1].split(">>>>>>>")[0].splitlines()[1:]
    assert len([line for line in conflict if line.startswith("exclude-newer")]) == 2
    assert len(conflict) == 3  # both lines and what separates them


def test_dependencies_that_nobody_moved_follow_the_release(releases: Path, project: Path) -> None:
    pinned = 'exclude-newer = "'
    edit(releases / "template/pyproject.toml.jinja", pinned, f"{pinned}2027-")
    release(releases, "v0.2.0")
    update(project)
    assert f"{pinned}2027-" in (project / "pyproject.toml").read_text(encoding="utf-8")


class TestConflicts:
    """A conflict leaves markers, which the project's own commit hooks refuse."""

    @pytest.fixture
    def conflicting(self, releases: Path, project: Path) -> Path:
        edit(releases / "template/AGENTS.md.jinja", "## Check a change", "## Check each change")
        release(releases, "v0.2.0")
        edit(project / "AGENTS.md", "## Check a change", "## Check our changes")
        commit_all(project, "Work")
        update(project)
        return project

    def test_is_shown_with_both_sides(self, conflicting: Path) -> None:
        text = (conflicting / "AGENTS.md").read_text(encoding="utf-8")
        assert "<<<<<<< before updating\n## Check our changes" in text
        assert "## Check each change\n>>>>>>> after updating" in text
        assert "UU AGENTS.md" in git(conflicting, "status", "--porcelain")

    def test_markers_are_refused(self, conflicting: Path) -> None:
        git(conflicting, "add", "AGENTS.md")
        done = run_hook(conflicting, "conflict-markers")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "AGENTS.md" in done.stdout

    def test_rejected_patch_is_refused(self, project: Path) -> None:
        (project / "AGENTS.md.rej").write_text("@@ -1 +1 @@\n", encoding="utf-8")
        git(project, "add", "--force", "AGENTS.md.rej")
        done = run_hook(project, "rejected-patches")
        assert done.returncode == 1
        assert "bring its change in by hand" in done.stdout

    def test_dotenv_is_refused(self, project: Path) -> None:
        (project / ".env").write_text("POSTGRES_PASSWORD=x\n", encoding="utf-8")
        assert "?? .env" not in git(project, "status", "--porcelain")
        git(project, "add", "--force", ".env")
        assert run_hook(project, "secrets").returncode == 1

    def test_a_clean_project_is_not_refused(self, project: Path) -> None:
        for hook in ("conflict-markers", "rejected-patches", "secrets"):
            done = run_hook(project, hook)
            assert done.returncode == 0, done.stdout + done.stderr


def run_hook(project: Path, hook: str) -> subprocess.CompletedProcess[str]:
    """Run one commit hook over the project, with the tools that run these tests."""
    environment = project / ".venv"
    environment.mkdir()
    (environment / "bin").symlink_to(Path(sys.executable).parent)
    try:
        return subprocess.run(
            [environment / "bin" / "pre-commit", "run", hook, "--all-files"],
            cwd=project,
            check=False,
            capture_output=True,
            text=True,
        )
    finally:
        shutil.rmtree(environment)
