"""The released versions of this template, which updates start from.

Tags may be missing from a clone, so a release is found by its commit: `Release X.Y.Z`.
"""

import re
from functools import cache
from pathlib import Path

from tests.repositories import REPOSITORY, WORKING_TREE, commit_all, copy_of_working_tree, git


@cache
def released_versions() -> dict[str, str]:
    """Each released version with its commit, the oldest first."""
    log = git(REPOSITORY, "log", "--reverse", "--format=%H %s", "--grep", "^Release [0-9]")
    found = re.findall(r"^(\w+) Release (\d+\.\d+\.\d+)$", log, re.MULTILINE)
    return {version: commit for commit, version in found}


def clone_with_releases(destination: Path) -> Path:
    """A clone with a tag for each release, and the working tree as the newest of them."""
    git(REPOSITORY, "clone", "--quiet", "--no-hardlinks", ".", str(destination))
    for version, commit in released_versions().items():
        git(destination, "tag", "--force", f"v{version}", commit)
    git(destination, "rm", "--quiet", "-r", ".")
    copy_of_working_tree(destination)
    commit_all(destination, "The working tree")
    git(destination, "tag", f"v{WORKING_TREE}")
    return destination
