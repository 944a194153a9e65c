"""A process's cache of valid tokens."""

import time
from collections import OrderedDict
from datetime import datetime
from typing import NamedTuple


class KnownToken(NamedTuple):
    """The facts about a valid token that authentication needs."""

    id: int
    name: str
    expires_at: datetime | None


class TokenCache:
    """Caches valid tokens by their hash, for a limited time and up to a limited number.

    The time bounds how long a revoked token still works in this process. Unknown tokens are not
    cached: a new token works at once, and guesses cannot evict the known ones.
    """

    def __init__(self, *, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._size = size
        self._entries: OrderedDict[str, tuple[float, KnownToken]] = OrderedDict()

    def get(self, digest: str) -> KnownToken | None:
        """The token with this hash, unless its entry has expired."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        stale_at, token = entry
        if time.monotonic() >= stale_at:
            del self._entries[digest]
            return None
        return token

    def put(self, digest: str, token: KnownToken) -> None:
        """Add a valid token; the oldest entry may be evicted."""
        self._entries.pop(digest, None)
        self._entries[digest] = (time.monotonic() + self._seconds, token)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
