"""Dependencies of the extension's endpoints: `async def read_profile(user: CurrentUserDep)`.

Other parts of the service take core's `PrincipalDep`, whose `kind` is `user` for users, and need
not import the extension for it.
"""

from contextlib import suppress
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends
from pydantic import ValidationError

from app.core.dependencies import PrincipalDep
from app.extensions.accounts.models import CurrentUser
from kit.errors import Problem
from kit.security import USERS


async def get_current_user(principal: PrincipalDep) -> CurrentUser:
    """Return the calling user; the route says `serves(USERS)`.

    Raises:
        Problem: 403 when the caller is no user, on a route that serves others too; or one of
            another provider, whose ids are no UUIDs.
    """
    if principal.kind == USERS:
        # Users of another provider, or of a test, have no claims of Supabase Auth.
        claims = {"role": "authenticated", **principal.claims, "id": principal.id}
        with suppress(ValidationError):
            return CurrentUser.model_validate(claims)
    raise Problem(
        HTTPStatus.FORBIDDEN,
        "This is for users: send the access token of a session of Supabase Auth.",
    )


CurrentUserDep = Annotated[CurrentUser, Depends(get_current_user)]
