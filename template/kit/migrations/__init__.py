"""Migrations: which there are, which the database has, and bringing it up to date.

Three kinds of Alembic branches share one database. The kit's is in `kit/migrations/versions/`
and each extension's in its own `migrations/`; both come with updates of the code they belong to.
The service's own, in `alembic/versions/`, is what `make db-migrate` writes, with `depends_on` for
what it needs of the others. So an update that brings a revision never forks the service's history.
"""

from kit.migrations._autogenerate import REVISION_ID_LENGTH
from kit.migrations._branches import CORE, SERVICE, load_metadata, script_directory
from kit.migrations._env import run_alembic
from kit.migrations._forget import forget_extension
from kit.migrations._reset import refuse_production, reset_database
from kit.migrations._state import (
    VERSION_TABLE,
    MigrationState,
    explain_ahead,
    explain_orphan,
    read_state,
)
from kit.migrations._upgrade import init_db, upgrade_to_heads
