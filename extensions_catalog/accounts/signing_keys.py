"""The project's public keys, from its JWKS: fetched when they are needed, and cached.

A key is trusted while the list that names it is fresh. A stale list is fetched again, and so is one
that lacks the key that a token names, by which a rotation is noticed. Only the configured address
is ever requested, independent of a token's header.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import httpx2
import jwt
from pydantic import BaseModel, ConfigDict

logger = logging.getLogger(__name__)

ALGORITHMS = ("ES256", "RS256", "EdDSA")
"""The algorithms of Supabase that have a public key.

Source: https://supabase.com/docs/guides/auth/signing-keys#choosing-the-right-signing-algorithm
"""

FETCH_SECONDS = 5
"""Timeout of a whole fetch, however slowly the bytes arrive."""

BYTES_LIMIT = 65_536
"""Largest JWKS; a key takes some 200 bytes (P-256) or 500 (RSA)."""

RETRY_SECONDS = 5
"""Pause between two fetches, when the first has failed."""

UNKNOWN_KEY_SECONDS = 30
"""Pause between two fetches for unknown keys: any client can send a token that names one."""


class _KeySet(BaseModel):
    """A JWKS, whose entries are validated one by one: an unknown kind is no error.

    https://www.rfc-editor.org/rfc/rfc7517#section-5
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    keys: list[Any]


class UnknownSigningKeyError(LookupError):
    """The project has no such key."""


class SigningKeysUnavailableError(ConnectionError):
    """The keys are unavailable, so no token can be verified; the API answers 503."""


class SigningKeys:
    """The keys at one address.

    Args:
        url: address of the JWKS.
        cache_seconds: how long a fetched list is fresh.
        stale_seconds: how much longer it is used while it cannot be fetched.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        cache_seconds: float,
        stale_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._cache_seconds = cache_seconds
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._has_failed = False
        self._fetching = asyncio.Lock()
        # Made beforehand: reading the certificates would block the event loop for some 30 ms.
        self._tls = httpx2.create_ssl_context()

    async def find(self, key_id: str) -> jwt.PyJWK:
        """Find the key of this id, with its algorithm.

        Raises:
            UnknownSigningKeyError: when the project has no such key.
            SigningKeysUnavailableError: when the keys cannot be fetched.
        """
        if not self._has_fresh(key_id) and not self._can_do_without_waiting(key_id):
            async with self._fetching:
                # Not if another request has done so while this one waited.
                if self._may_fetch():
                    await self._fetch()
        key = self._keys.get(key_id)
        if key is None and not self._has_failed:
            raise UnknownSigningKeyError(key_id)
        if key is None or self._age() >= self._cache_seconds + self._stale_seconds:
            raise SigningKeysUnavailableError(f"no signing keys from {self._url}")
        return key

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _has_fresh(self, key_id: str) -> bool:
        return key_id in self._keys and self._age() < self._cache_seconds

    def _can_do_without_waiting(self, key_id: str) -> bool:
        """Whether a stale key can be used, while one request tries to fetch the list again."""
        is_retry = self._has_failed and self._fetching.locked()
        holds = self._age() < self._cache_seconds + self._stale_seconds
        return is_retry and holds and key_id in self._keys

    def _may_fetch(self) -> bool:
        waited = self._clock() - self._tried_at
        if self._has_failed:
            return waited >= RETRY_SECONDS
        return self._age() >= self._cache_seconds or waited >= UNKNOWN_KEY_SECONDS

    async def _fetch(self) -> None:
        """Fetch the current list, or keep the last one and note the failure."""
        try:
            keys = _usable_keys(await self._download())
        except (httpx2.HTTPError, OSError, ValueError) as error:
            self._has_failed = True
            logger.warning(
                "no signing keys from %s: %s: %s", self._url, type(error).__name__, error
            )
        else:
            if not keys:
                logger.warning(
                    "%s lists no key that can verify tokens; does the project still sign with its "
                    "legacy JWT secret? Supabase's dashboard has JWT signing keys",
                    self._url,
                )
            self._keys = keys
            self._fetched_at = self._clock()
            self._has_failed = False
        self._tried_at = self._clock()

    async def _download(self) -> bytes:
        is_remote = self._url.startswith("https:")
        async with (
            asyncio.timeout(FETCH_SECONDS),
            # Redirects are not followed. A proxy could not reach this machine's loopback.
            httpx2.AsyncClient(
                verify=self._tls, timeout=FETCH_SECONDS, trust_env=is_remote
            ) as client,
            # Not compressed, so that the limit of bytes holds for the content too.
            client.stream("GET", self._url, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            answer.raise_for_status()
            body = b""
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > BYTES_LIMIT:
                    raise ValueError(f"more than {BYTES_LIMIT} bytes")
            return body


def _usable_keys(body: bytes) -> dict[str, jwt.PyJWK]:
    """Parse the keys that can verify a token, by their ids.

    Raises:
        ValueError: when the body is not a JWKS.
    """
    entries = _KeySet.model_validate_json(body).keys
    keys = [key for entry in entries if (key := _usable_key(entry))]
    return {key.key_id: key for key in keys if key.key_id}


def _usable_key(entry: Any) -> jwt.PyJWK | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
        return None
    if entry.get("use", "sig") != "sig" or entry.get("alg", ALGORITHMS[0]) not in ALGORITHMS:
        return None
    try:
        key = jwt.PyJWK(entry)
        # Fails for a key of another curve than the algorithm's.
        public_key = key.Algorithm.prepare_key(key.key)
    except (jwt.PyJWTError, TypeError):
        return None
    is_short = key.Algorithm.check_key_length(public_key) is not None
    return key if key.algorithm_name in ALGORITHMS and not is_short else None
