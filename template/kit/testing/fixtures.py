"""The kit's fixtures, as a plugin of pytest: `pytest_plugins = ["kit.testing.fixtures"]`."""

from kit.places import service
from kit.testing._certificates import certificates
from kit.testing._databases import test_database
from kit.testing._fresh_database import database_for_migrations, fresh_database
from kit.testing._queue_processes import pytest_collection_modifyitems, use_redis, worker
from kit.testing._quick_passwords import quick_password_hashes
from kit.testing._running_service import running_service
from kit.testing._sessions import (
    admin_client,
    connection,
    emptied_engine,
    one_connection,
    session_makers,
    sync_db_session,
    sync_session_connection,
)

# Making the application binds session makers, which fixtures then point at the test's transaction.
service.module("main")
