"""Files below `.data/` that are generated once and read ever after, safe against two at once."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kit.devservices._errors import DevServicesError

_POLL_SECONDS = 0.02


def data_directory(base_dir: Path) -> Path:
    """The project's `.data/`, made when missing: unreadable to others and ignored by git.

    Raises:
        DevServicesError: when it cannot be written, usually because another user made it.
    """
    directory = base_dir / ".data"
    try:
        # Root's PostgreSQL runs as another user, who has to pass through but need not list.
        directory.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
        ignore = directory / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise DevServicesError(
            f"{directory} cannot be written ({error.strerror}); it holds the development data. "
            f"Make it yours (chown -R {os.geteuid()} {directory}) or remove it."
        ) from error
    return directory


def remember(path: Path, generate: Callable[[], Mapping[str, object]]) -> dict[str, object]:
    """The JSON object in `path`; what `generate` gives is written there the first time.

    Raises:
        DevServicesError: when the file cannot be read or is not a JSON object.
    """
    try:
        with locked(path.with_suffix(".lock"), seconds=10):
            if not path.exists():
                _write(path, generate())
            content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DevServicesError(
            f"{path} is not valid JSON ({error}). Mend it, or remove it to have it made again."
        ) from error
    if not isinstance(content, dict):
        raise DevServicesError(f"{path} holds no JSON object. Remove it to have it made again.")
    return content


@contextmanager
def locked(path: Path, *, seconds: float) -> Iterator[int]:
    """Hold the lock that `path` stands for; yields its file descriptor.

    The lock is the kernel's (flock): it is gone with the last process that has the descriptor.

    Raises:
        DevServicesError: when the file is another user's.
        TimeoutError: when somebody else holds it for longer than `seconds`.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise DevServicesError(
            f"{path.parent} belongs to another user, who started the service here before. "
            f"Make it yours (chown -R {os.geteuid()} {path.parent}) or remove it."
        ) from error
    try:
        deadline = time.monotonic() + seconds
        while not try_lock(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} stayed locked for {seconds:.0f} seconds")
            time.sleep(_POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file if nobody else holds it; False when somebody does."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(path: Path, content: Mapping[str, object]) -> None:
    # Renamed into place, so that a reader never meets half a file, not even after a crash.
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    unfinished.rename(path)
