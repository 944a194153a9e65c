"""Access for the user `nobody`, as whom PostgreSQL runs when this process is root.

A project in a private home directory is closed to `nobody`, and the home directory must stay so.
Therefore programs are copied to, and data is kept in, `/var/lib/devservices/`. Only root can write
there, unlike `/var/tmp`, where another user could have prepared files.
"""

import hashlib
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from kit.devservices._binaries import PostgresPrograms
from kit.devservices._data import DevServicesError
from kit.devservices._processes import Identity

STATE_DIRECTORY = Path("/var/lib/devservices")
ORIGIN = "origin"
"""File in a copy of the programs, with the path of the original."""


def reachable_programs(programs: PostgresPrograms, identity: Identity) -> PostgresPrograms:
    """The same programs, or a copy (about 40 MB, made once) where `identity` cannot run them."""
    directory = programs.directory.resolve()
    if not identity or _others_can_enter(directory):
        return programs
    # A newer wheel in the same place is another tree.
    changed = (directory / "postgres").stat().st_mtime_ns
    digest = _digest(f"{directory} {changed}")
    copy = STATE_DIRECTORY / f"postgresql-{programs.major}-{digest}"
    if not copy.exists():
        _make_state_directory()
        _remove_orphaned_copies()
        unfinished = Path(tempfile.mkdtemp(dir=STATE_DIRECTORY))
        try:
            _copy_programs(directory.parent, unfinished / copy.name)
            (unfinished / copy.name / ORIGIN).write_text(str(directory), encoding="utf-8")
            (unfinished / copy.name).rename(copy)
        except FileExistsError:
            pass  # Another project has made the copy at the same time.
        finally:
            shutil.rmtree(unfinished)
    return PostgresPrograms(copy.joinpath(*directory.parts[-3:]), programs.major)


def _remove_orphaned_copies() -> None:
    """Remove the copies whose original no longer exists, for example after its venv was removed."""
    for origin in STATE_DIRECTORY.glob(f"postgresql-*/{ORIGIN}"):
        if not Path(origin.read_text(encoding="utf-8")).exists():
            shutil.rmtree(origin.parent, ignore_errors=True)


def _copy_programs(tree: Path, destination: Path) -> None:
    """Copy the files that `tree / "bin"` needs, in their layout, and make them readable by others.

    In a wheel, programs load the libraries that auditwheel has put into `<package>.libs`.
    """
    package = tree.parent
    for part in ("bin", "lib", "share"):
        shutil.copytree(tree / part, destination / package.name / tree.name / part, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, destination / libraries.name)
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", destination], check=True)


def reachable_data_directory(wanted: Path, identity: Identity) -> Path:
    """Directory of PostgreSQL's data: `wanted`, or another that `wanted` is made a link to."""
    if not identity or (not wanted.is_symlink() and _others_can_enter(wanted.parent)):
        return wanted
    elsewhere = STATE_DIRECTORY / f"data-{_digest(str(wanted))}"
    if wanted.is_symlink():
        if wanted.readlink() != elsewhere:
            raise DevServicesError(
                f"{wanted} links to the data of a project in another folder ({wanted.readlink()}). "
                f"Was this project moved? Then move the data to {elsewhere} and the link with it. "
                f"Was it copied? Then remove {wanted} to begin with an empty database."
            )
        return elsewhere
    if wanted.exists():
        raise DevServicesError(
            f"{wanted} is no longer readable by the user that runs PostgreSQL. Make "
            f"{wanted.parent} accessible to others again (chmod o+x, its parents too), or remove "
            f"{wanted} to begin with an empty database."
        )
    # A missing link means that `.data/` was removed: its user expects the data to be removed, too.
    shutil.rmtree(elsewhere, ignore_errors=True)
    _make_state_directory()
    wanted.symlink_to(elsewhere)
    return elsewhere


def reachable_temporary_directory(identity: Identity) -> Path:
    """Make a directory with a short path for temporary data, in the first usable place."""
    places = [Path(tempfile.gettempdir())]
    if identity:
        places += [Path("/tmp"), Path("/var/tmp")]  # noqa: S108 (a fresh directory is made there)
        places = [place for place in places if _others_can_enter(place)]
    directory = Path(tempfile.mkdtemp(prefix="devservices-", dir=places[0]))
    directory.chmod(0o711 if identity else 0o700)
    return directory


def _others_can_enter(directory: Path) -> bool:
    """Whether a user without special rights can traverse the whole path."""
    directory = directory.resolve()
    return all(path.stat().st_mode & stat.S_IXOTH for path in (directory, *directory.parents))


def _make_state_directory() -> None:
    STATE_DIRECTORY.mkdir(exist_ok=True)
    STATE_DIRECTORY.chmod(0o755)  # whatever the umask


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
