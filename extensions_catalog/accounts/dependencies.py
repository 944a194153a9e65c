"""Dependencies of the extension's endpoints: `async def read_profile(user: CurrentUserDep)`.

Other parts of the service take core's `PrincipalDep`, whose `kind` is `user` for users, and need
not import the extension for it.
"""

from http import HTTPStatus
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.core.dependencies import PrincipalDep
from app.extensions.accounts.models import CurrentUser
from app.extensions.accounts.principals import USER_KIND
from kit.errors import Problem

# Names the scheme in the OpenAPI document; the provider verifies the token.
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="Access token",
    description="Of a user's session in Supabase Auth.",
)


async def get_current_user(
    principal: PrincipalDep,
    _credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None,
) -> CurrentUser:
    """Return the calling user.

    Raises:
        Problem: 403 when the caller is not a user but a program with an API token.
    """
    if principal.kind != USER_KIND:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "This is for users: send the access token of a session of Supabase Auth.",
        )
    return CurrentUser.model_validate({**principal.claims, "id": principal.id})


CurrentUserDep = Annotated[CurrentUser, Depends(get_current_user)]
