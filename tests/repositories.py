"""Repositories: this one's working tree as a template with a release, and projects in git."""

import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

WORKING_TREE = "99.0.0"
"""Version under which the working tree is tagged: newer than every release."""


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


def template_of_working_tree(folder: Path, version: str = WORKING_TREE) -> Path:
    """This working tree, uncommitted work included, as a release would be: one tagged commit.

    Args:
        folder: where the repository goes.
        version: that its tag names.
    """
    copy_of_working_tree(folder)
    commit_all(folder, "Release")
    git(folder, "tag", f"v{version}")
    return folder


def edit(path: Path, before: str, after: str) -> None:
    """Change the first place of a text file that reads so; there has to be one."""
    text = path.read_text(encoding="utf-8")
    assert before in text, f"{path.name} has no {before!r}"
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
