"""Dependencies of the extension's endpoints: `async def read_profile(user: CurrentUserDep)`.

Other parts of the service take core's `PrincipalDep`, whose `kind` is `user` for users, and need
not import the extension for it.
"""

from http import HTTPStatus
from typing import Annotated

from fastapi import Depends

from app.core.dependencies import PrincipalDep
from app.extensions.accounts.models import CurrentUser
from kit.errors import Problem
from kit.security import USERS


async def get_current_user(principal: PrincipalDep) -> CurrentUser:
    """Return the calling user; the route says `serves(USERS)`.

    Raises:
        Problem: 403 when the caller is no user, on a route that serves others too.
    """
    if principal.kind != USERS:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "This is for users: send the access token of a session of Supabase Auth.",
        )
    return CurrentUser.model_validate({**principal.claims, "id": principal.id})


CurrentUserDep = Annotated[CurrentUser, Depends(get_current_user)]
