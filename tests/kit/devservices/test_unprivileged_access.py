import shutil
from pathlib import Path

import pytest

from kit.devservices import _servers as servers
from kit.devservices._servers import PostgresPrograms, find_postgres, reachable_programs
from kit.tests.devservices.conftest import nobody


@pytest.fixture
def state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(servers, "STATE_DIRECTORY", tmp_path / "state")
    return tmp_path / "state"


def private_copy(folder: Path) -> PostgresPrograms:
    """PostgreSQL's programs in a directory that is closed to others."""
    found = find_postgres()
    tree = found.directory.resolve().parent
    shutil.copytree(tree, folder / tree.parent.name / tree.name, symlinks=True)
    folder.chmod(0o700)
    return PostgresPrograms(folder / tree.parent.name / tree.name / "bin", found.major)


@pytest.mark.slow
def test_copies_are_removed_when_their_original_is_gone(
    state_directory: Path, tmp_path: Path
) -> None:
    first = private_copy(tmp_path / "first")
    copied = reachable_programs(first, nobody())
    assert copied.directory.is_relative_to(state_directory)
    assert reachable_programs(first, nobody()) == copied

    shutil.rmtree(tmp_path / "first")
    other = reachable_programs(private_copy(tmp_path / "second"), nobody())

    assert (other.directory / "postgres").exists()
    assert not copied.directory.exists()
