"""Logins and keys of this machine's copy of the service: `.data/credentials.json`.

They are generated once, belong to nobody else's machine and are used in the local environment
only.
"""

import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from kit.devservices._errors import DevServicesError
from kit.devservices._private_files import data_directory, remember

FILE_NAME = "credentials.json"


@dataclass(frozen=True, repr=False)
class Credentials:
    """What a developer logs in with; stays the same until `.data/credentials.json` is removed."""

    secret_key: str
    admin_username: str
    admin_password: str
    flower_password: str
    api_token: str


def local_credentials(base_dir: Path) -> Credentials:
    """The credentials of the project in `base_dir`; generated now, when there are none yet.

    Raises:
        DevServicesError: when `.data/credentials.json` cannot be written or read.
    """
    path = data_directory(base_dir) / FILE_NAME
    content = remember(path, lambda: asdict(_generate()))
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
