"""What the service does about its database when it starts."""

import logging

from kit.database import connect
from kit.migrations._branches import load_metadata, script_directory
from kit.migrations._state import MigrationState, explain_ahead, explain_orphan, read_state
from kit.migrations._upgrade import upgrade_to_heads
from kit.settings import StartupError, settings

logger = logging.getLogger(__name__)


async def init_db() -> None:
    """Prepare the database, or refuse to start on one that does not fit the code.

    An empty database of a developer gets its tables by running all migrations, so that the next
    `make db-upgrade` goes on from there; several processes may start at once. Any other database
    has to have the revisions of the code. One that has more, because the code was rolled back,
    only gets a warning.

    Raises:
        StartupError: when the database cannot be reached, is behind the code, or is empty outside
            local.
    """
    script, metadata = script_directory(), load_metadata()
    async with connect() as connection:
        async with connection.begin():
            state = await connection.run_sync(read_state, script, metadata)
        if state.is_empty and settings.is_local:
            async with connection.begin():
                await connection.run_sync(upgrade_to_heads, script)
            return
    _judge(state)


def _judge(state: MigrationState) -> None:
    for extension in state.orphans:
        logger.warning("%s", explain_orphan(extension))
    if state.is_ahead:
        # What an unknown revision builds on cannot be told, so neither what is missing.
        logger.warning("%s", explain_ahead(state))
    elif state.missing:
        raise StartupError(_explain_behind(state))


def _explain_behind(state: MigrationState) -> str:
    command = "make db-upgrade" if settings.is_local else "alembic upgrade heads"
    if state.applied:
        return (
            f"the database is behind the code: it lacks {', '.join(state.missing)}. "
            f"Run `{command}` first."
        )
    if state.has_tables:
        return (
            "the database has tables of this service, but no note of its migrations. If they are "
            "as the migrations make them, run `alembic stamp heads`; else use an empty database."
        )
    return f"the database has no tables yet. Run `{command}` first."
