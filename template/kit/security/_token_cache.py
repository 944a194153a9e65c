"""What a process remembers of the tokens that it has seen."""

import time
from collections import OrderedDict
from datetime import datetime
from typing import NamedTuple


class KnownToken(NamedTuple):
    """What has to be known of a valid token to let its bearer in."""

    id: int
    name: str
    expires_at: datetime | None


class TokenCache:
    """Remembers valid tokens by their hash, for a while, and not more than so many.

    How long bounds how long a revoked token still works in this process. Unknown tokens are not
    remembered: a new token works at once, and guesses cannot push the known ones out.
    """

    def __init__(self, *, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._size = size
        self._entries: OrderedDict[str, tuple[float, KnownToken]] = OrderedDict()

    def get(self, digest: str) -> KnownToken | None:
        """The token with this hash, unless it was put here too long ago."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        stale_at, token = entry
        if time.monotonic() >= stale_at:
            del self._entries[digest]
            return None
        return token

    def put(self, digest: str, token: KnownToken) -> None:
        """Remember a valid token; the one that was put here longest ago may be forgotten."""
        self._entries.pop(digest, None)
        self._entries[digest] = (time.monotonic() + self._seconds, token)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
