"""Files in `.data/`: generated once and kept, such as the logins of this machine's service."""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path


class DevServicesError(Exception):
    """A development server cannot be started; the message says which, why and what to do."""


class PortTakenError(DevServicesError):
    """Another program listens on the port that is reserved for a server."""


_POLL_SECONDS = 0.02


def data_directory(base_dir: Path) -> Path:
    """The project's `.data/`, made when missing: not readable by others and ignored by git.

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


def load_or_generate(path: Path, generate: Callable[[], Mapping[str, object]]) -> dict[str, object]:
    """Load the JSON object in `path`; the first time, generate and write it.

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
            f"{path} is not valid JSON ({error}). Fix it, or remove it to have it made again."
        ) from error
    if not isinstance(content, dict):
        raise DevServicesError(f"{path} holds no JSON object. Remove it to have it made again.")
    return content


@contextmanager
def locked(path: Path, *, seconds: float) -> Iterator[int]:
    """Hold the lock on the file `path`; yields its file descriptor.

    The lock is the kernel's (flock): it ends with the last process that has the descriptor.

    Raises:
        DevServicesError: when the file is another user's.
        TimeoutError: when another process holds it for longer than `seconds`.
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
    """Lock an open file without waiting; returns False when another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(path: Path, content: Mapping[str, object]) -> None:
    # Renamed into place, so that a reader never sees half a file, not even after a crash.
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    unfinished.rename(path)


FILE_NAME = "credentials.json"


@dataclass(frozen=True, repr=False)
class Credentials:
    """A developer's credentials, which stay the same until `.data/credentials.json` is removed."""

    secret_key: str
    admin_username: str
    admin_password: str
    flower_password: str
    api_token: str


def local_credentials(base_dir: Path) -> Credentials:
    """The credentials of the project in `base_dir`; generated when there are none yet.

    Raises:
        DevServicesError: when `.data/credentials.json` cannot be written or read.
    """
    path = data_directory(base_dir) / FILE_NAME
    content = load_or_generate(path, lambda: asdict(_generate()))
    texts = {key: value for key, value in content.items() if isinstance(value, str)}
    missing = {field.name for field in fields(Credentials)} - texts.keys()
    if missing:
        raise DevServicesError(
            f"{path} lacks {', '.join(sorted(missing))}. Remove it to have it made again."
        )
    return Credentials(**{field.name: texts[field.name] for field in fields(Credentials)})


def _generate() -> Credentials:
    return Credentials(
        secret_key=secrets.token_urlsafe(32),
        admin_username="admin",
        admin_password=secrets.token_urlsafe(12),
        flower_password=secrets.token_urlsafe(12),
        api_token=f"api_{secrets.token_urlsafe(32)}",
    )
