"""The kit's fixtures, as a plugin of pytest: `pytest_plugins = ["kit.testing.fixtures"]`."""

import gc
import sys

import pytest

from kit.devservices import DevServicesError
from kit.places import service
from kit.testing import wait_for_test_servers
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
gc.enable()
gc.freeze()  # what was imported stays; at its end pytest collects ten times, 30 ms each otherwise


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Wait before the first test for the servers, which started while the service was imported."""
    try:
        wait_for_test_servers()
    except DevServicesError as error:
        item.session.shouldstop = "there is no server for the tests"
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Spare a run without Hypothesis its import, of 0.2 seconds, for the plugin's summary."""
    plugins = session.config.pluginmanager
    if "hypothesis" not in sys.modules and plugins.has_plugin("hypothesispytest"):
        plugins.unregister(name="hypothesispytest")
