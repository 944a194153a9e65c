"""Migrations: the revisions of the code, those of the database, and the upgrade between them.

Three kinds of Alembic branches share one database. The kit's is in `kit/migrations/versions/`
and each extension's in its own `migrations/`; both come with updates of the code they belong to.
The service's own is in `alembic/versions/`, written by `make db-migrate`, with `depends_on` for the
revisions of others that it needs. So an update with a new revision never forks its history.
"""

from kit.migrations._autogenerate import REVISION_ID_LENGTH
from kit.migrations._branches import (
    CORE,
    SERVICE,
    VERSION_TABLE,
    MigrationState,
    explain_ahead,
    explain_forks,
    explain_orphan,
    load_metadata,
    read_rows,
    read_state,
    script_directory,
)
from kit.migrations._env import (
    forget_extension,
    is_of_unknown_origin,
    refuse_production,
    reset_database,
    run_alembic,
)
from kit.migrations._upgrade import (
    OURS,
    compare_with_models,
    init_db,
    missing_revisions,
    read_objects,
    run_revision,
    upgrade_to_heads,
)
