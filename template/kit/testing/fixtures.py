"""The kit's fixtures, as a plugin of pytest: `pytest_plugins = ["kit.testing.fixtures"]`."""

from kit.places import service
from kit.testing._databases import (
    admin_client,
    call_as,
    connection,
    database_for_migrations,
    emptied_engine,
    fresh_database,
    no_database_unasked,
    one_connection,
    quick_password_hashes,
    session_makers,
    sync_db_session,
    sync_session_connection,
    test_database,
)
from kit.testing._processes import (
    certificates,
    pytest_collection_modifyitems,
    running_service,
    use_redis,
    worker,
)

# Making the application binds session makers, which fixtures then point at the test's transaction.
service.module("main")
