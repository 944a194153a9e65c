"""When tokens were last used: noted in memory, written in batches."""

import asyncio
import logging
from datetime import datetime

from sqlalchemy import DateTime, Integer, column, func, values
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, update

from kit.models import ApiToken
from kit.places import service

logger = logging.getLogger(__name__)


class TokenUses:
    """Collects the times of use, and writes them so many seconds after the first.

    A request that bears a token therefore never waits for a write.
    """

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._noted: dict[int, datetime] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def note(self, token_id: int, used_at: datetime) -> None:
        """Note a use. Has to be called in the event loop."""
        self._noted[token_id] = used_at
        loop = asyncio.get_running_loop()
        if self._timer is None or self._timer.when() <= loop.time():
            self._timer = loop.call_later(self._seconds, self._start_writing)

    async def flush(self) -> None:
        """Write what has been noted, and wait for a write that has begun already."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None and not self._writing.done():
            await self._writing
        await self._write_noted()

    def _start_writing(self) -> None:
        self._timer = None
        # Held, because the event loop itself keeps only weak references to tasks.
        self._writing = asyncio.get_running_loop().create_task(self._write_noted())

    async def _write_noted(self) -> None:
        """Write all in one statement. A failure is logged, and the uses are kept."""
        noted, self._noted = self._noted, {}
        if not noted:
            return
        try:
            await _write(noted)
        except (SQLAlchemyError, OSError) as error:
            logger.warning("the last uses of %d API tokens are not written: %s", len(noted), error)
            self._noted = noted | self._noted


async def _write(noted: dict[int, datetime]) -> None:
    uses = values(
        column("id", Integer), column("used_at", DateTime(timezone=True)), name="uses"
    ).data(sorted(noted.items()))
    # `greatest` ignores nulls; another process may have written a later use already.
    statement = (
        update(ApiToken)
        .where(col(ApiToken.id) == uses.c.id)
        .values(last_used_at=func.greatest(col(ApiToken.last_used_at), uses.c.used_at))
    )
    async with service.async_session_maker() as session:
        await session.exec(statement)
        await session.commit()
