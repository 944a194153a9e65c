"""Create and refresh the profile of every calling user."""

import logging
import time
from collections import OrderedDict
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, or_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select, update

from app.core import database
from app.extensions.accounts.models import AccountsProfile, CurrentUser
from kit.causes import first_line
from kit.messages import publish

logger = logging.getLogger(__name__)

SIGHTING_SECONDS = 60
"""How long a user counts as just seen: meanwhile nothing is read or written for them."""


class RecentSightings:
    """Cache of the users that this process has just seen, limited in time and size."""

    def __init__(self, *, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._size = size
        self._entries: OrderedDict[UUID, tuple[float, str | None]] = OrderedDict()

    def holds(self, user: CurrentUser) -> bool:
        """Whether the user was just seen, with the same address."""
        stale_at, email = self._entries.get(user.id, (0.0, None))
        return time.monotonic() < stale_at and email == user.email

    def add(self, user: CurrentUser) -> None:
        """Add the user; the oldest entry may be evicted."""
        self._entries.pop(user.id, None)
        self._entries[user.id] = (time.monotonic() + self._seconds, user.email)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()


recent_sightings = RecentSightings(seconds=SIGHTING_SECONDS, size=10_000)


async def note_sighting(user: CurrentUser) -> None:
    """Create the user's profile if need be, and update its time of the last visit.

    That time is accurate to a minute. Mostly this takes no connection; otherwise it takes one for a
    moment, before the endpoint takes its own.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: when a new user's profile cannot be written.
    """
    if recent_sightings.holds(user):
        return
    is_stale = col(AccountsProfile.last_seen_at) < func.now() - timedelta(seconds=SIGHTING_SECONDS)
    statement = select(AccountsProfile.email, is_stale).where(AccountsProfile.id == user.id)
    async with database.read_session_maker() as session:
        row = (await session.exec(statement)).first()
    if row is None:
        await _create(user)
    elif row != (user.email, False):
        await _refresh(user)
    recent_sightings.add(user)


async def _create(user: CurrentUser) -> None:
    """Create the profile and publish it, unless a concurrent request does so."""
    async with database.async_session_maker() as session:
        created_at = await session.scalar(
            insert(AccountsProfile)
            .values(id=user.id, email=user.email)
            .on_conflict_do_nothing()
            .returning(col(AccountsProfile.created_at))
        )
        if created_at is None:
            return
        payload = {
            "user_id": str(user.id),
            "email": user.email,
            "is_anonymous": user.is_anonymous,
            "created_at": created_at.isoformat(),
        }
        if user.email:
            payload["mail_to"] = user.email
        await publish(session, "accounts.profile-created", payload)
        await session.commit()


async def _refresh(user: CurrentUser) -> None:
    """Update time and address; a failure is only logged, so that the user is still served."""
    is_new = or_(
        col(AccountsProfile.email).is_distinct_from(user.email),
        col(AccountsProfile.last_seen_at) < func.now() - timedelta(seconds=SIGHTING_SECONDS),
    )
    statement = (
        update(AccountsProfile)
        .where(col(AccountsProfile.id) == user.id, is_new)
        .values(email=user.email, last_seen_at=func.now())
    )
    try:
        async with database.async_session_maker() as session:
            await session.exec(statement)
            await session.commit()
    except (SQLAlchemyError, OSError) as error:
        logger.warning("a user's last visit was not stored: %s", first_line(error))
