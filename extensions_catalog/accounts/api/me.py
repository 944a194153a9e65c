"""Routes below `/api/accounts`: the profile of the calling user."""

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
from kit.security import ANONYMOUS_USERS, USERS, serves

router = APIRouter(tags=["Profile"], dependencies=[serves(USERS, ANONYMOUS_USERS)])


@router.get("/me", response_model=ProfileOutput)
async def read_profile(session: ReadSessionDep, user: CurrentUserDep) -> AccountsProfile:
    """Read the profile of the calling user."""
    return await _get_profile(session, user)


@router.patch("/me", response_model=ProfileOutput)
async def update_profile(
    session: SessionDep, user: CurrentUserDep, values: ProfileInput
) -> AccountsProfile:
    """Change the profile; fields that are left out stay as they are."""
    profile = await _get_profile(session, user)
    profile.sqlmodel_update(values.model_dump(exclude_unset=True))
    await session.commit()
    return profile


async def _get_profile(session: AsyncSession, user: CurrentUser) -> AccountsProfile:
    profile = await session.get(AccountsProfile, user.id)
    if profile is None:
        # Deleted just now: a call a minute after the last one makes a new one.
        raise Problem(
            HTTPStatus.NOT_FOUND, "The profile was deleted; a new one is made within a minute."
        )
    return profile
