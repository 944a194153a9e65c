"""The kit's fixtures, as a plugin of pytest: `pytest_plugins = ["kit.testing.fixtures"]`."""

from kit.places import service
from kit.testing._databases import database_for_migrations, fresh_database, test_database
from kit.testing._processes import certificates, running_service, worker
from kit.testing._redis_servers import pytest_collection_modifyitems, use_redis
from kit.testing._sessions import (
    admin_client,
    call_as,
    connection,
    emptied_engine,
    one_connection,
    quick_password_hashes,
    session_makers,
    sync_db_session,
    sync_session_connection,
)

# Making the application binds session makers, which fixtures then point at the test's transaction.
service.module("main")
