"""Values kept in `.data/` on a developer's machine: embedded servers' addresses, generated logins.

`devservices` is imported only when it is needed: the production image has neither that package nor
the servers.
"""

from typing import TYPE_CHECKING

from kit.settings._base import BASE_DIR, StartupError, known_secrets

if TYPE_CHECKING:
    from types import ModuleType

    from kit.devservices import Addresses, Credentials


def local_addresses() -> "Addresses":
    """The addresses of the embedded servers, whether they run or not.

    Raises:
        StartupError: when the addresses cannot be read.
    """
    devservices = devservices_package()
    try:
        addresses: Addresses = devservices.addresses(BASE_DIR)
    except devservices.DevServicesError as error:
        raise StartupError(str(error)) from None
    return addresses


def local_credentials() -> "Credentials":
    """The logins and keys generated for this copy of the service, for the local environment.

    Raises:
        StartupError: when they cannot be read.
    """
    devservices = devservices_package()
    try:
        credentials: Credentials = devservices.local_credentials(BASE_DIR)
    except devservices.DevServicesError as error:
        raise StartupError(str(error)) from None
    return credentials


def local_secret_key() -> str:
    """The key that signs session cookies where `SECRET_KEY` is not set; see `local_credentials`."""
    key = local_credentials().secret_key
    known_secrets.add(key)
    return key


def devservices_package() -> "ModuleType":
    """Import the package `devservices`.

    Raises:
        StartupError: where it is absent; the message says what to configure instead.
    """
    try:
        from kit import devservices  # noqa: PLC0415 (absent in production)
    except ImportError as error:
        raise StartupError(
            "ENVIRONMENT is local and database, Redis or SECRET_KEY are not configured, but the "
            f"embedded servers to use instead are not installed ({error}). In an image, set "
            "ENVIRONMENT=production, DATABASE_URL, REDIS_URL and SECRET_KEY; on Windows, work in "
            "WSL or set DATABASE_URL, REDIS_URL and SECRET_KEY in .env."
        ) from None
    return devservices
