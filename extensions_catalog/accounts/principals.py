"""Users as principals: a caller with an access token of the project is known to the API."""

from http import HTTPStatus

from fastapi import Request

from app.extensions.accounts.access_tokens import RefusedTokenError, verifier
from app.extensions.accounts.profiles import note_sighting
from kit.errors import Problem
from kit.security import USERS, Principal, bearer_token, register_principal_provider


@register_principal_provider
async def user_principal(request: Request) -> Principal | None:
    """Identify the user by the access token in the request.

    None for other tokens, and for all where no project is configured.

    Raises:
        Problem: 401 for a token of the project that is not valid.
        SigningKeysUnavailableError: when its keys are unavailable; the API answers 503.
    """
    token = bearer_token(request)
    if verifier is None or token is None or not verifier.claims_issuer(token):
        return None
    try:
        user, claims = await verifier.verify(token)
    except RefusedTokenError as refused:
        raise _unauthorized(refused) from refused
    await note_sighting(user)
    # Of anonymous ones too; the id is that of Supabase Auth.
    return Principal(kind=USERS, id=str(user.id), name=user.email or str(user.id), claims=claims)


def _unauthorized(refused: RefusedTokenError) -> Problem:
    """The answer of https://www.rfc-editor.org/rfc/rfc6750#section-3, with the reason."""
    challenge = f'Bearer error="invalid_token", error_description="{refused.description}"'
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        refused.description,
        headers={"WWW-Authenticate": challenge},
        reason=refused.reason,
    )
