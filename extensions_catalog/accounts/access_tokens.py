"""Verification of access tokens of Supabase Auth."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import jwt
from pydantic import ValidationError

from app.extensions.accounts.models import CurrentUser
from app.extensions.accounts.settings import AccountsSettings, accounts_settings
from app.extensions.accounts.signing_keys import ALGORITHMS, SigningKeys, UnknownSigningKeyError

LEEWAY_SECONDS = 30
"""Tolerated difference between the clocks of Supabase and of this machine."""

LENGTH_LIMIT = 16_384
"""Characters of a token. Supabase's have about 1,000, and more with large metadata."""

_REASONS: dict[type[Exception], tuple[str, str]] = {
    jwt.ExpiredSignatureError: ("expired", "The access token has expired; refresh the session."),
    jwt.ImmatureSignatureError: ("not-yet-valid", "The access token is not valid yet."),
    jwt.InvalidAudienceError: ("audience", "The access token is for another audience."),
    jwt.InvalidAlgorithmError: (
        "algorithm",
        "The access token's algorithm does not match its key.",
    ),
    jwt.InvalidSignatureError: ("signature", "The access token's signature does not match."),
    UnknownSigningKeyError: ("unknown-key", "The access token names no key of the project."),
}
_MALFORMED = ("malformed", "The access token lacks what it needs to be verified.")


class RefusedTokenError(Exception):
    """A token of the project is refused.

    Attributes:
        reason: one word for programs.
        description: a sentence for people, of characters that a header can hold.
    """

    def __init__(self, reason: str, description: str) -> None:
        super().__init__(description)
        self.reason = reason
        self.description = description


@dataclass(frozen=True, slots=True)
class AccessTokenVerifier:
    """Verifies the access tokens of one project.

    Attributes:
        issuer: required value of the claim `iss`.
        audience: required value of the claim `aud`, or one of its values.
        oauth_clients: ids of the OAuth clients whose tokens are accepted too.
        keys: the project's public keys.
    """

    issuer: str
    audience: str
    oauth_clients: Collection[str]
    keys: SigningKeys

    def claims_issuer(self, token: str) -> bool:
        """Whether this is a JWT whose `iss` names the project; nothing is verified."""
        if len(token) > LENGTH_LIMIT:
            return False
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            return False
        return claims.get("iss") == self.issuer

    async def verify(self, token: str) -> tuple[CurrentUser, dict[str, Any]]:
        """Verify a token, and return its user and all of its claims.

        Raises:
            RefusedTokenError: when it is not valid here.
            SigningKeysUnavailableError: when it cannot be verified, since the keys are unavailable.
        """
        try:
            claims = await self._verified_claims(token)
            user = CurrentUser.model_validate({**claims, "id": claims["sub"]})
        except (jwt.PyJWTError, UnknownSigningKeyError, ValidationError) as error:
            raise RefusedTokenError(*_REASONS.get(type(error), _MALFORMED)) from error
        if user.client_id is not None and user.client_id not in self.oauth_clients:
            raise RefusedTokenError(
                "client", "The access token was issued to an OAuth client that is not allowed."
            )
        return user, claims

    async def _verified_claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        # Refused without fetching keys: tokens signed with the project's legacy secret come here.
        if header.get("alg") not in ALGORITHMS:
            raise jwt.InvalidAlgorithmError(header.get("alg"))
        if "kid" not in header:
            raise UnknownSigningKeyError("no key id")
        key = await self.keys.find(header["kid"])
        return jwt.decode(
            token,
            key,
            # The key defines the algorithm, never the token: otherwise a forger could have the
            # public key used as a shared secret.
            algorithms=[key.algorithm_name],
            issuer=self.issuer,
            audience=self.audience,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )


def make_verifier(settings: AccountsSettings) -> AccessTokenVerifier | None:
    """Make the verifier of the configured project; None where none is configured."""
    if settings.issuer is None or settings.jwks_url is None:
        return None
    keys = SigningKeys(
        settings.jwks_url,
        cache_seconds=settings.JWKS_CACHE_SECONDS,
        stale_seconds=settings.JWKS_STALE_SECONDS,
    )
    return AccessTokenVerifier(
        issuer=settings.issuer,
        audience=settings.AUDIENCE,
        oauth_clients=frozenset(settings.OAUTH_CLIENTS),
        keys=keys,
    )


verifier = make_verifier(accounts_settings)
