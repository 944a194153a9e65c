"""Password hashes that cost almost nothing, for tests only: a real one takes 50 ms and 64 MiB."""

from collections.abc import Iterator

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from kit.security import _passwords as passwords


@pytest.fixture(scope="session", autouse=True)
def quick_password_hashes() -> Iterator[None]:
    """Hash with the least that Argon2 can be told to do."""
    quick = PasswordHash([Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)])
    passwords._nobodys_hash.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", quick)
        yield
    passwords._nobodys_hash.cache_clear()
