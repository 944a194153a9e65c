"""Migrations: which there are, which the database has, and bringing it up to date.

Three kinds of Alembic branches share one database. Core's is in `app/migrations/` and each
extension's in its own `migrations/`; both come with updates of the code they belong to. The
service's own, in `alembic/versions/`, is what `make db-migrate` writes, with `depends_on` for what
it needs of the others. So an update that brings a revision never forks the service's history.
"""

from app.core.migrations.branches import script_directory
from app.core.migrations.startup import init_db
from app.core.migrations.state import MigrationState, read_state

__all__ = ["MigrationState", "init_db", "read_state", "script_directory"]
