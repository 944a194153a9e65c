"""Temporary servers, for a test run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.devservices._data import PortTakenError
from kit.devservices._lease import Lease, start_keeper
from kit.devservices._processes import unprivileged_identity
from kit.devservices._reservation import Addresses, addresses_in
from kit.devservices._unprivileged_access import reachable_temporary_directory

_ATTEMPTS = 5


@contextmanager
def temporary_servers(*, postgres: bool = True, redis: bool = True) -> Iterator[Addresses]:
    """Start empty servers, removed with their data at the end or when this process is killed.

    PostgreSQL does not wait for its disk (fsync off), Valkey writes nothing. Ready in under a
    second. At the address of a server that was not requested, nothing listens.

    Raises:
        DevServicesError: when a server cannot be started; the message says what to do.
    """
    directory, lease = _start(postgres=postgres, redis=redis)
    with lease:
        yield addresses_in(directory)


def _start(*, postgres: bool, redis: bool) -> tuple[Path, Lease]:
    # A port is chosen before its server listens on it. Two runs that start at the same moment can
    # choose the same port; the slower one then chooses another.
    for attempt in range(1, _ATTEMPTS + 1):
        directory = reachable_temporary_directory(unprivileged_identity())
        try:
            return directory, start_keeper(
                directory, postgres=postgres, redis=redis, temporary=True
            )
        except PortTakenError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError  # the last attempt has returned or raised
