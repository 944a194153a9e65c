"""Routes below `/api/accounts`: the profile of the user who calls."""

from http import HTTPStatus

from fastapi import APIRouter
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.dependencies import ReadSessionDep, SessionDep
from app.extensions.accounts.dependencies import CurrentUserDep
from app.extensions.accounts.models import (
    AccountsProfile,
    CurrentUser,
    ProfileInput,
    ProfileOutput,
)
from kit.errors import Problem

router = APIRouter(tags=["Profile"])


@router.get("/me", response_model=ProfileOutput)
async def read_profile(session: ReadSessionDep, user: CurrentUserDep) -> AccountsProfile:
    """The profile of the user who calls."""
    return await _get_profile(session, user)


@router.patch("/me", response_model=ProfileOutput)
async def update_profile(
    session: SessionDep, user: CurrentUserDep, values: ProfileInput
) -> AccountsProfile:
    """Change the profile; what is left out stays as it is."""
    profile = await _get_profile(session, user)
    profile.sqlmodel_update(values.model_dump(exclude_unset=True))
    await session.commit()
    return profile


async def _get_profile(session: AsyncSession, user: CurrentUser) -> AccountsProfile:
    profile = await session.get(AccountsProfile, user.id)
    if profile is None:
        # Since a moment: whoever calls a minute after the last time gets a new one.
        raise Problem(HTTPStatus.NOT_FOUND, "The profile was deleted; there is a new one shortly.")
    return profile
