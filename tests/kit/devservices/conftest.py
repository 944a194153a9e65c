"""Projects whose servers the tests start, hold and kill from processes of their own."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kit.devservices._servers import Identity
from kit.tests.devservices.project import PYTHON_PATH, Project


def nobody() -> Identity:
    """Who runs PostgreSQL when root starts it."""
    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module", params=["this user", "an ordinary user"])
def project(request: pytest.FixtureRequest) -> Iterator[Project]:
    """An empty project, of whoever runs the tests and, when that is root, of `nobody`."""
    identity: Identity = {}
    if request.param == "an ordinary user":
        if os.geteuid() != 0:
            pytest.skip("whoever runs the tests is an ordinary user already")
        identity = nobody()
    with _project_directory(identity) as directory:
        yield Project(directory, identity, _python_of(identity))


@pytest.fixture
def own_project() -> Iterator[Project]:
    """An empty project of whoever runs the tests."""
    with _project_directory({}) as directory:
        yield Project(directory, {})


@contextmanager
def _project_directory(identity: Identity) -> Iterator[Path]:
    # Not pytest's own directory, which is closed to `nobody`.
    directory = Path(tempfile.mkdtemp(prefix="project-"))
    directory.chmod(0o755)
    if identity:
        os.chown(directory, identity["user"], identity["group"])
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _python_of(identity: Identity) -> str:
    """A Python that the user can run: this one, or the system's where this one is root's own."""
    for python in (sys.executable, "/usr/bin/python3"):
        with suppress(OSError, subprocess.CalledProcessError):
            subprocess.run(
                [python, "-c", "import kit.devservices"],
                cwd="/",
                env={"PYTHONPATH": PYTHON_PATH},
                stderr=subprocess.DEVNULL,
                check=True,
                **identity,
            )
            return python
    pytest.skip("this project, or every Python, lies where no other user can read it")
