"""`initdb` runs once for each build of PostgreSQL; what it has made is copied from then on."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kit.devservices import _servers as servers
from kit.devservices import unprivileged_identity
from kit.devservices._servers import PostgresPrograms, find_postgres, reachable_programs

pytestmark = pytest.mark.slow


@pytest.fixture
def programs() -> PostgresPrograms:
    return reachable_programs(find_postgres(), unprivileged_identity())


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that `initdb` has filled."""
    seen: list[Path] = []
    run = servers._initialize

    def initialize(programs: PostgresPrograms, directory: Path, identity: servers.Identity) -> None:
        seen.append(directory)
        run(programs, directory, identity)

    monkeypatch.setattr(servers, "_initialize", initialize)
    return seen


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where clusters are kept, by root and by others."""
    monkeypatch.setattr(servers, "STATE_DIRECTORY", tmp_path / "devservices")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "devservices"


Make = Callable[[], Path]


@pytest.fixture
def make(programs: PostgresPrograms) -> Iterator[Make]:
    """Makes a data directory in a place that PostgreSQL's user can enter."""
    identity = unprivileged_identity()
    with ExitStack() as places:

        def make() -> Path:
            place = servers.reachable_temporary_directory(identity)
            places.callback(shutil.rmtree, place)
            servers._make_data_directory(programs, place / "pg", identity)
            return place / "pg"

        yield make


def tree(directory: Path) -> dict[str, tuple[int, int, int]]:
    """Owner, group and mode of all that is in it, and its own."""
    found = {}
    for path in (directory, *directory.rglob("*")):
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        found[str(path.relative_to(directory))] = (status.st_uid, status.st_gid, mode)
    return found


def test_the_second_is_a_copy(make: Make, runs: list[Path], cache: Path) -> None:
    first, second = make(), make()
    assert len(runs) == 1
    assert tree(second) == tree(first)
    assert {mode & 0o077 for *_, mode in tree(second).values()} == {0}
    [kept] = cache.iterdir()
    assert {owner for owner, *_ in tree(kept).values()} == {os.geteuid()}
    assert not (second / "postmaster.pid").exists()


def test_another_build_has_its_own(
    make: Make,
    programs: PostgresPrograms,
    runs: list[Path],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make()
    [before] = cache.iterdir()
    program = programs.directory / "postgres"
    stat_of = Path.stat

    def later(path: Path, **options: bool) -> os.stat_result:
        found = stat_of(path, **options)
        if path != program:
            return found
        return os.stat_result(found, {"st_mtime_ns": found.st_mtime_ns + 1})

    monkeypatch.setattr(Path, "stat", later)
    make()
    [after] = cache.iterdir()
    assert len(runs) == 2
    assert after != before


@pytest.mark.parametrize("obstacle", ["a file in its place", "a full disk"])
def test_where_none_can_be_kept_initdb_runs_each_time(
    make: Make,
    runs: list[Path],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    obstacle: str,
) -> None:
    if obstacle == "a file in its place":
        cache.write_text("", encoding="utf-8")
    else:
        copies_half = '#!/bin/sh\nmkdir -p "$3" && echo 18 > "$3/PG_VERSION" && exit 1\n'
        (tmp_path / "cp").write_text(copies_half, encoding="utf-8")
        (tmp_path / "cp").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for _ in range(2):
        assert (make() / "global" / "pg_control").exists()
    assert len(runs) == 2
    assert cache.is_file() or [*cache.iterdir()] == []


def test_a_user_without_a_home_keeps_none(
    programs: PostgresPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    kept = servers._kept_cluster(programs, {})
    assert not servers._copy(kept, Path("/never"))
    servers._keep(programs.directory, kept)
    assert not kept.exists()
